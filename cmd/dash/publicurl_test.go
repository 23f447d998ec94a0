package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// proxied is a node behind a reverse proxy that takes the path /dash away.
type proxied struct {
	t      *testing.T
	public string
	key    string
}

func behindProxy(t *testing.T) *proxied {
	t.Helper()
	var node atomic.Pointer[httputil.ReverseProxy]
	mux := http.NewServeMux() // whatever is not below the path is 404
	mux.Handle("/dash/", http.StripPrefix("/dash", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { node.Load().ServeHTTP(w, r) })))
	proxy := httptest.NewServer(mux)
	t.Cleanup(proxy.Close)
	p := &proxied{t: t, public: proxy.URL + "/dash"}
	data := t.TempDir()
	cmd := drillCommand(context.WithoutCancel(t.Context()), t, "serve", "--data", data, "--sim-gateways", "1", "--listen", "127.0.0.1:0", "--public-url", p.public+"/")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	own, err := url.Parse(readUntilReady(t, read))
	if err != nil {
		t.Fatal(err)
	}
	node.Store(httputil.NewSingleHostReverseProxy(own))
	rest := make(chan string, 1)
	go func() {
		defer read.Close()
		all, _ := io.ReadAll(read) // up to the end of the node
		rest <- string(all)
	}()
	key, err := os.ReadFile(filepath.Join(data, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	p.key = strings.TrimSpace(string(key))
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the node ended with %v", err)
		}
		if said := <-rest; !strings.Contains(said, "documentation: "+p.public+"/api/v1/docs\n") {
			t.Errorf("the banner does not name the public address:\n%s", said)
		}
	})
	return p
}

func (p *proxied) do(method, address, body string, header ...string) (*http.Response, []byte) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp, raw
}

// follow resolves a link as a browser does and goes there.
func (p *proxied) follow(what, at, link string) {
	p.t.Helper()
	base, err := url.Parse(at)
	if err != nil {
		p.t.Fatal(err)
	}
	target, err := base.Parse(link)
	if err != nil || link == "" {
		p.t.Errorf("%s at %s is the link %q: %v", what, at, link, err)
		return
	}
	if resp, raw := p.do(http.MethodGet, target.String(), ""); resp.StatusCode >= 400 && resp.StatusCode != http.StatusUpgradeRequired {
		p.t.Errorf("%s at %s leads to %s: %s\n%s", what, at, target, resp.Status, raw)
	}
}

var hrefs = regexp.MustCompile(`href="([^"#][^"]*)"`)

// TestPublicURL follows every link that a node behind a proxy hands out.
func TestPublicURL(t *testing.T) {
	t.Parallel()
	p := behindProxy(t)
	api := p.public + "/api/v1"
	for path, body := range map[string]string{
		"/tasks":                 `{"priority":"high","input":{"message":"hello"}}`,
		"/sessions":              `{"id":"s-1"}`,
		"/gateways":              `{"id":"gw-x","url":"ws://127.0.0.1:9/","token":"t"}`,
		"/keys":                  `{"name":"k","permissions":["tasks:read"]}`,
		"/users":                 `{"email":"a@example.org","password":"a long pass phrase 1","role":"viewer"}`,
		"/sessions/s-2/messages": `{"message":"x"}`,
	} {
		if path == "/sessions/s-2/messages" {
			p.do(http.MethodPost, api+"/sessions", `{"id":"s-2"}`)
		}
		resp, raw := p.do(http.MethodPost, api+path, body)
		if resp.StatusCode >= 300 {
			t.Errorf("POST %s: %s %s", path, resp.Status, raw)
			continue
		}
		p.follow("Location of POST "+path, api+path, resp.Header.Get("Location"))
	}
	for _, wrong := range []string{api + "/tasks/none", api + "/nothing", p.public + "/nothing", api + "/docs/errors/none"} {
		resp, raw := p.do(http.MethodGet, wrong, "")
		var problem struct {
			Type     string
			NextStep string `json:"next_step"`
		}
		if err := json.Unmarshal(raw, &problem); err != nil || resp.StatusCode != http.StatusNotFound {
			t.Fatalf("%s: %s %s", wrong, resp.Status, raw)
		}
		p.follow("type of the problem", wrong, problem.Type)
		for _, word := range strings.Fields(problem.NextStep) {
			if strings.Contains(word, "/docs") {
				p.follow("next step of the problem", wrong, word)
			}
		}
	}
	resp, _ := p.do(http.MethodGet, p.public+"/api/tasks", "")
	successor, _, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	p.follow("successor of the alias", p.public+"/api/tasks", successor)

	_, raw := p.do(http.MethodGet, api+"/openapi.json", "")
	var doc struct{ Servers []struct{ URL string } }
	if err := json.Unmarshal(raw, &doc); err != nil || len(doc.Servers) != 2 {
		t.Fatalf("servers of the document: %+v, %v", doc, err)
	}
	for _, s := range doc.Servers {
		p.follow("server of the document", api+"/openapi.json", s.URL+"/tasks")
	}
	for page, least := range map[string]int{api + "/docs": 20, p.public + "/": 5, api + "/docs/errors/not_found": 0} {
		_, raw := p.do(http.MethodGet, page, "", "Accept", "text/html")
		links := hrefs.FindAllSubmatch(raw, -1)
		if len(links) < least {
			t.Errorf("%s has %d links, want at least %d", page, len(links), least)
		}
		for _, m := range links {
			if !strings.HasSuffix(string(m[1]), "/events") { // those never end
				p.follow("link", page, string(m[1]))
			}
		}
	}
	_, raw = p.do(http.MethodGet, p.public+"/", "", "Accept", "text/plain")
	for _, word := range strings.Fields(string(raw)) {
		if strings.Contains(word, "/") && !strings.HasPrefix(word, p.public+"/") && word != "/api/v1" {
			t.Errorf("the page in plain text names %q", word)
		}
	}

	// A page that has a successor is followed by its cursor, below the same path.
	for range 3 {
		p.do(http.MethodPost, api+"/tasks", `{"priority":"low","input":{"message":"hello"}}`)
	}
	for _, address := range []string{p.public, p.public + "/", api} {
		for _, args := range [][]string{{"task", "list", "--limit", "2"}, {"task", "submit", "--message", "Say hello.", "--wait"}, {"doctor"}, {"gateway", "show", "gw-x"}} {
			cmd := drillCommand(t.Context(), t, args...)
			cmd.Env = append(cmd.Env, "DASH_URL="+address, "DASH_API_KEY="+p.key)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); err != nil && args[0] != "doctor" { // gw-x is away: doctor may say so
				t.Errorf("DASH_URL=%s dash %s: %v\n%s", address, strings.Join(args, " "), err, out.Bytes())
			} else if strings.Contains(out.String(), "there is no such path") {
				t.Errorf("DASH_URL=%s dash %s:\n%s", address, strings.Join(args, " "), out.Bytes())
			}
		}
	}
}
