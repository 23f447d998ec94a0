package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
)

// A submit whose answer is lost has been accepted all the same. The command
// sends it again with the same key, and so learns of the one task.
func TestLostAnswerIsAskedForAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	keys := f.lossy(t, "POST /api/v1/tasks", 2, 202, fakeTask(longID+"1", api.TaskStateQueued))
	wantResult(t, f.dash(t.Context(), "", "task", "submit", "--message", "x", "-o", "name"), 0, longID+"1\n")
	if got := keys(); len(got) != 3 || got[0] == "" || got[0] != got[1] || got[0] != got[2] {
		t.Errorf("the tries had the keys %q, want one key three times", got)
	}
}

// lossy makes a route lose its first answers; keys are those that it was given.
func (f *fake) lossy(t *testing.T, route string, lost int, status int, v any) (keys func() []string) {
	var seen []string
	f.mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		seen = append(seen, r.Header.Get("Idempotency-Key"))
		n := len(seen)
		f.mu.Unlock()
		if n <= lost {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
			return
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	})
	return func() []string {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Clone(seen)
	}
}

// A commit in doubt answers nobody. What the command says in the end does the
// work once.
func TestNobodyKnowsAndHowToGoOn(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.patience = 600 * time.Millisecond
	var open atomic.Bool
	var keys []string
	f.mux.HandleFunc("POST /api/v1/tasks", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		f.mu.Unlock()
		if !open.Load() {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(fakeTask(longID+"1", api.TaskStateQueued))
	})
	got := f.dash(t.Context(), "", "task", "submit", "--message", "x")
	wantResult(t, got, exitUnavailable, "", "did not answer in time", "it is not known whether it was done", "repeat the same command with --idempotency-key ")
	if strings.Contains(got.err, "try again") {
		t.Errorf("the advice does the work twice: %s", got.err)
	}
	m := regexp.MustCompile(`--idempotency-key (\S+):`).FindStringSubmatch(got.err)
	if m == nil {
		t.Fatalf("no key in %s", got.err)
	}
	open.Store(true)
	wantResult(t, f.dash(t.Context(), "", "task", "submit", "--message", "x", "--idempotency-key", m[1], "-o", "name"), 0, longID+"1\n")
	if len(keys) < 3 || slices.ContainsFunc(keys, func(k string) bool { return k != m[1] }) {
		t.Errorf("keys %q, want at least three and all %q", keys, m[1])
	}
}

// Every write of the command line says so when its outcome is not known, and
// none says "try again".
func TestEveryWriteInDoubtSaysSo(t *testing.T) {
	t.Parallel()
	one := longID + "1"
	for _, args := range [][]string{
		{"task", "submit", "--message", "x"}, {"task", "cancel", one}, {"task", "release", one, "--fail"}, {"task", "replay", one},
		{"session", "create", "s-1"}, {"session", "send", "s-1", "--message", "x"}, {"session", "close", "s-1"},
		{"gateway", "add", "gw-9", "--url", "ws://127.0.0.1:1"}, {"gateway", "resume", "gw-1"}, {"gateway", "set", "gw-1", "--weight", "2"},
		{"key", "create", "ci", "--permission", "tasks:read"}, {"tenant", "create", "acme"}, {"pool", "set", "p", "--aging", "30"},
	} {
		t.Run(strings.Join(args[:2], " "), func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.patience = 300 * time.Millisecond
			f.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodGet && strings.Count(r.URL.Path, "/") == 3: // lists
					_, _ = w.Write([]byte(`{"items":[{"id":"gw-1"},{"id":"s-1"}]}`))
				case r.Method == http.MethodGet:
					_, _ = w.Write([]byte(`{"id":"` + filepath.Base(r.URL.Path) + `","version":1}`))
				default:
					<-r.Context().Done()
				}
			})
			got := f.dash(t.Context(), "", args...)
			wantResult(t, got, exitUnavailable, "", "it is not known whether it was done", "next: ")
			if strings.Contains(got.err, "try again") {
				t.Errorf("the advice may do it twice: %s", got.err)
			}
		})
	}
}

// A proxy may send a repetition to another node, which does not know the key of
// the first one. So a write whose key is not kept with what it made is sent
// once, however its answer was lost, and the error names what tells.
func TestWritesAreNotRepeatedThroughAProxy(t *testing.T) {
	t.Parallel()
	one := longID + "1"
	losses := map[string]func(http.ResponseWriter){
		"502": func(w http.ResponseWriter) { w.WriteHeader(502) },
		"504": func(w http.ResponseWriter) { w.WriteHeader(504) },
		"EOF": func(w http.ResponseWriter) {
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				c.Close()
			}
		},
	}
	for loss, lose := range losses {
		for _, w := range []struct{ args, tells string }{
			{"task cancel " + one, "dash task show " + one}, {"task replay " + one, "dash task show " + one},
			{"session close s-1", "dash session show s-1"}, {"session create s-1", "dash session list"},
			{"gateway restart gw-1", "dash gateway show gw-1"}, {"gateway set gw-1 --weight 2", "dash gateway show gw-1"},
			{"key create ci --permission tasks:read", "dash key list"},
		} {
			t.Run(loss+" "+w.args, func(t *testing.T) {
				t.Parallel()
				f := newFake(t)
				var writes atomic.Int32
				f.mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet {
						_, _ = rw.Write([]byte(`{"id":"` + filepath.Base(r.URL.Path) + `","version":1,"items":[{"id":"gw-1"}]}`))
						return
					}
					writes.Add(1)
					lose(rw)
				})
				got := f.dash(t.Context(), "", strings.Fields(w.args)...)
				wantResult(t, got, exitUnavailable, "", "it is not known whether it was done", "next: look whether it was done", w.tells)
				if n := writes.Load(); n != 1 {
					t.Errorf("it was sent %d times", n)
				}
			})
		}
	}
}

func TestRateLimitIsObeyed(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var calls atomic.Int32
	f.mux.HandleFunc("POST /api/v1/tasks/{id}/cancel", func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 2 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			_ = json.NewEncoder(w).Encode(problem(429, "rate_limited", "this key has called too often", "wait"))
			return
		}
		_ = json.NewEncoder(w).Encode(fakeTask(r.PathValue("id"), api.TaskStateCancelled))
	})
	start := time.Now()
	wantResult(t, f.dash(t.Context(), "", "task", "cancel", longID+"1", longID+"2", longID+"3", "-o", "name"), 0, longID+"1\n"+longID+"2\n"+longID+"3\n", "going on in 1.0s")
	if took := time.Since(start); took < time.Second {
		t.Errorf("went on after %s, before Retry-After", took)
	}
}

func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	gone, f := newFake(t), newFake(t)
	gone.Close()
	f.answer("GET /api/v1/pools", 200, page[api.Pool]{Items: []api.Pool{{Id: "p-1"}}})
	var out strings.Builder
	both := &terminal{in: strings.NewReader(""), out: &out, err: &out, environ: []string{"DASH_URL=" + gone.URL + ", " + f.URL + "/api/v1", "DASH_API_KEY=k"}}
	if code := run(t.Context(), []string{"pool", "list", "-o", "name"}, both); code != 0 || out.String() != "p-1\n" {
		t.Errorf("code %d, output %q", code, out.String())
	}
}

// TestDoctorGoesOnToANodeThatAnswers: a dead node that DASH_URL names first is
// no verdict on the others.
func TestDoctorGoesOnToANodeThatAnswers(t *testing.T) {
	t.Parallel()
	gone, f := newFake(t), newFake(t)
	gone.Close()
	f.answer("GET /health/live", 200, api.Health{Status: api.HealthStatusOk, Version: version})
	f.answer("GET /api/v1/nodes", 200, api.NodeList{Items: []api.Node{}})
	f.answer("GET /health/ready", 200, api.Health{Status: api.HealthStatusOk})
	f.answer("GET /api/v1/queue", 200, api.Queue{})
	f.answer("GET /api/v1/gateways", 200, page[api.Gateway]{Items: []api.Gateway{{Id: "gw-1", State: api.GatewayStateReady}}})
	f.answer("GET /api/v1/tasks", 200, page[api.Task]{Items: []api.Task{}})
	got := severalNodes(t, []string{"doctor"}, gone.URL, f.URL)
	wantResult(t, got, 0, f.URL+" answers")
	if want := "no Dash node answers at " + gone.URL; !strings.Contains(got.out, want) {
		t.Errorf("the output does not say %q of the dead one: %q", want, got.out)
	}
	f.Close()
	wantResult(t, severalNodes(t, []string{"doctor"}, gone.URL, f.URL), exitUnavailable, "no Dash node answers at "+gone.URL+", "+f.URL)
}

// TestStandbyIsAskedForNothing: a node that stands by has done nothing, so the
// next address is asked; when none works, that is what the error says, and not
// that the last one is dead.
func TestStandbyIsAskedForNothing(t *testing.T) {
	t.Parallel()
	standby, f, gone := newFake(t), newFake(t), newFake(t)
	gone.Close()
	standby.answer("POST /api/v1/sessions", 503, problem(503, "standby", "this node is on standby: node b does the work", "ask it"))
	f.answer("POST /api/v1/sessions", 201, api.Session{Id: "s-1"})
	command := []string{"session", "create", "s-1", "-o", "name"}
	wantResult(t, severalNodes(t, command, standby.URL, f.URL), 0, "s-1")
	for _, urls := range [][]string{{standby.URL, gone.URL}, {gone.URL, standby.URL}, {standby.URL}} {
		wantResult(t, severalNodes(t, command, urls...), exitUnavailable, "", "node b does the work")
	}
}

// severalNodes runs a command line with these addresses in DASH_URL.
func severalNodes(t *testing.T, args []string, urls ...string) result {
	t.Helper()
	var out, errs strings.Builder
	code := run(t.Context(), args, &terminal{in: strings.NewReader(""), out: &out, err: &errs, environ: []string{"DASH_URL=" + strings.Join(urls, ","), "DASH_API_KEY=k"}})
	return result{code, out.String(), errs.String()}
}

func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.mux.HandleFunc("GET /api/v1/pools", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer k-file" {
			t.Errorf("the key is %q", r.Header.Get("Authorization"))
		}
		_, _ = w.Write([]byte(`{"items":[]}`))
	})
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("k-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for env, want := range map[string]int{"DASH_API_KEY=a\nb": exitUsage, "DASH_API_KEY_FILE=" + file + "x": exitUsage, "DASH_API_KEY_FILE=" + file: 0} {
		var out strings.Builder
		if code := run(t.Context(), []string{"pool", "list"}, &terminal{in: strings.NewReader(""), out: &out, err: &out, environ: []string{"DASH_URL=" + f.URL, env}}); code != want {
			t.Errorf("%q: code %d, want %d: %s", env, code, want, out.String())
		} else if name, _, _ := strings.Cut(env, "="); want != 0 && !strings.Contains(out.String(), name) {
			t.Errorf("%q: the error does not name the variable: %s", env, out.String())
		}
	}
}

// The key of a node goes to the node, not to whoever listens on the port of a
// killed one.
func TestKilledNodesPortGetsNoKey(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			t.Errorf("a stranger was sent %q", a)
		}
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(problem(401, "unauthorized", "no", "no"))
	})
	home := t.TempDir()
	key := filepath.Join(home, "admin.key")
	if err := os.WriteFile(key, []byte("local-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The node is a process of its own, and is killed.
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperAnnounces$")
	cmd.Env = append(os.Environ(), "ANNOUNCE="+f.URL, "ANNOUNCE_KEY="+key, "HOME="+home, "XDG_STATE_HOME=")
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := said.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	var out strings.Builder
	term := &terminal{in: strings.NewReader(""), out: &out, err: &out, environ: []string{"DASH_URL=" + f.URL, "HOME=" + home}}
	if code := run(t.Context(), []string{"pool", "list"}, term); code != exitAuth || !strings.Contains(out.String(), "was killed") {
		t.Errorf("code %d: %s", code, out.String())
	}
}

// TestHelperAnnounces is the node of the test above.
func TestHelperAnnounces(t *testing.T) {
	url := os.Getenv("ANNOUNCE")
	if url == "" {
		t.Skip("only a helper process")
	}
	if _, err := announce(systemTerminal(), localNode{URL: url, KeyFile: os.Getenv("ANNOUNCE_KEY"), PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdout.WriteString("x")
	time.Sleep(time.Minute)
}

// TestDoubtIsOfAnEarlierTry: what the last try says of itself is not said of one
// whose answer was lost.
func TestDoubtIsOfAnEarlierTry(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.patience = 600 * time.Millisecond
	var tries atomic.Int32
	f.mux.HandleFunc("POST /api/v1/tasks", func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) == 1 {
			panic(http.ErrAbortHandler) // the answer is lost
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(problem(503, "unavailable", "the store is away; nothing was accepted", "wait"))
	})
	got := f.dash(t.Context(), "", "task", "submit", "--message", "x")
	wantResult(t, got, exitUnavailable, "", "it is not known whether an earlier try did it; the last one: the store is away; nothing was accepted")
}

// TestWhenA503EndsNobodyKnows: a node that stands by does so as long as the other works.
func TestWhenA503EndsNobodyKnows(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.patience = 100 * time.Millisecond
	f.answer("GET /api/v1/gateways", 503, problem(503, "unavailable", "this node is on standby: node b does the work", "ask it"), "Retry-After", "1")
	got := f.dash(t.Context(), "", "gateway", "list")
	wantResult(t, got, exitUnavailable, "", "this node is on standby: node b does the work")
	if strings.Contains(got.err, "may succeed") {
		t.Errorf("it promises an end: %s", got.err)
	}
}
