package server

import (
	"bufio"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/julienschmidt/httprouter"
)

// FuzzCanonicalPath: a target that is let through has one spelling only, and
// no cleaning by anybody leads it to another route.
func FuzzCanonicalPath(f *testing.F) {
	for _, s := range []string{"/api/v1/tasks", "/api/v1/%74asks", "/a//b", "/a/./b", "/a/../b", "/a/..", "/a;b", "/a%2fb", "/a\\b", "/a%00", "//h/x", "http://h/x", "/a%20b", "/é", "/?q=%2f", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if strings.ContainsAny(target, " \r\n") {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")))
		if err != nil || notCanonical(r) != "" {
			return
		}
		p := r.URL.Path
		raw, _, _ := strings.Cut(target, "?")
		if p != raw {
			t.Errorf("%q is routed as %q", target, p)
		}
		if clean := path.Clean(p); clean != p && clean+"/" != p {
			t.Errorf("%q could be cleaned to %q", p, clean)
		}
		if clean := httprouter.CleanPath(p); clean != p {
			t.Errorf("%q could be redirected to %q", p, clean)
		}
		if again, err := url.PathUnescape(p); err != nil || again != p {
			t.Errorf("%q could be decoded to %q", p, again)
		}
	})
}

func TestRegistrationRefusesDisagreement(t *testing.T) {
	t.Parallel()
	doc, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	var s Server
	s.cmd.Gateways = nopGateways{}
	all := s.endpoints()
	if err := agree(doc, all); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string]endpoint){
		"no handler":         func(m map[string]endpoint) { delete(m, "getQueue") },
		"not documented":     func(m map[string]endpoint) { m["other"] = endpoint{} },
		"open by mistake":    func(m map[string]endpoint) { m["getQueue"] = m["getDocs"] },
		"another permission": func(m map[string]endpoint) { m["getQueue"] = m["listNodes"] },
		"access forgotten":   func(m map[string]endpoint) { e := m["getDocs"]; e.access = endpoint{}.access; m["getDocs"] = e },
	} {
		m := s.endpoints()
		change(m)
		if agree(doc, m) == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

type nopGateways struct{ Gateways }
