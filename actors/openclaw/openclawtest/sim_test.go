package openclawtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func sim(t testing.TB, g *Gateway, body string) {
	t.Helper()
	if code, answer := httpDo(t, g, "POST", simPath, body, nil); code != 200 {
		t.Fatalf("POST /__sim %s: %d %s", body, code, answer)
	}
}

func TestSimRefusesNonsense(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for _, body := range []string{`{"fail_rate":2}`, `{"nope":1}`, `[]`, `{`, `{"down_seconds":-1}`, `{"provider_fail":"x"}`, `{"fail_rate":0}{}`} {
		if code, answer := httpDo(t, b.g, "POST", simPath, body, nil); code != 400 {
			t.Errorf("%s: %d %s", body, code, answer)
		}
	}
	sim(t, b.g, `{"fail_rate":0.5}`)
	sim(t, b.g, `{"run_time_seconds":0.25}`)
	if f := b.g.Faults(); f.FailRate != 0.5 || *f.RunTimeSeconds != 0.25 {
		t.Fatalf("faults %+v: fields not given must stay", f)
	}
	if code, body := httpDo(t, b.g, "GET", simPath, "", nil); code != 200 || !strings.Contains(body, b.g.BootID()) {
		t.Fatalf("GET /__sim: %d %s", code, body)
	}
}

func TestSimFailAndHang(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	sim(t, b.g, `{"fail_rate":1}`)
	if f := c.run("f1", "agent:main:f", "x", nil); f.OK || f.Error.Code != "UNAVAILABLE" {
		t.Fatalf("final %s", f.raw)
	}
	sim(t, b.g, `{"fail_rate":0,"hang_rate":1}`)
	if f := c.run("f2", "agent:main:f", "x", obj{"timeout": 1}); f.get(t, "status") != "timeout" {
		t.Fatalf("final %s", f.raw)
	}
	sim(t, b.g, `{"hang_rate":0,"provider_fail_rate":1,"provider_fail":"400"}`)
	if f := c.run("f3", "agent:main:f", "x", nil); f.OK || !strings.Contains(f.Error.Message, "rejected the request") {
		t.Fatalf("final %s", f.raw)
	}
	sim(t, b.g, `{"provider_fail_rate":0,"run_time_seconds":0.05,"event_loop_delay_ms":900}`)
	begin := time.Now()
	c.run("f4", "agent:main:f", "x", nil)
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Fatalf("run took %s", took)
	}
	for _, method := range []string{"system.info", "health", "status"} {
		if f := c.must(method, obj{}); f.get(t, "eventLoop.delayP99Ms") != 900.0 || f.get(t, "eventLoop.degraded") != true {
			t.Fatalf("%s %s", method, f.raw)
		}
	}
}

func TestSimBrokenHistory(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	c.run("b1", "agent:main:b", "x", nil)
	for _, broken := range []bool{true, false} {
		sim(t, b.g, fmt.Sprintf(`{"broken_history":%t}`, broken))
		f := c.must("chat.history", obj{"sessionKey": "agent:main:b"})
		if missing := !strings.Contains(string(f.raw), `"messages"`); missing != broken {
			t.Fatalf("broken %t: %s", broken, f.raw)
		}
	}
}

func TestSimDropCutsTheSocket(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	sim(t, b.g, `{"drop_rate":1}`)
	stories := map[string]bool{}
	for i := range 20 {
		c := dial(t, b.g)
		id := fmt.Sprint("d", i)
		c.start("agent", obj{"message": "x", "idempotencyKey": id, "sessionKey": "agent:main:" + id})
		if code := c.closeCode(); code != -1 {
			t.Fatalf("close %d", code)
		}
		stories[b.log.story(t, id)] = true
	}
	if !stories[""] || !stories["accepted started finished"] {
		t.Fatalf("stories %v: want runs never taken and runs taken", stories)
	}
}

func TestSimOddAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	sim(t, b.g, `{"garbage_rate":1,"duplicate_rate":1}`)
	id := c.startRun("o1", "agent:main:o", "x", nil)
	if f := c.answer(id, 2); replyText(t, f) != "ECHO(1): x" {
		t.Fatalf("duplicate %s", f.raw)
	}
	c.await("garbage", 0, func(f frame) bool { return f.Type == "garbage" })
	sim(t, b.g, `{"garbage_rate":0,"duplicate_rate":0,"wrong_id_rate":1}`)
	id = c.startRun("o2", "agent:main:o", "x", nil)
	c.answer("stranger-"+id, 0)
	sim(t, b.g, `{"wrong_id_rate":0,"late_rate":1,"late_seconds":0.05}`)
	id = c.startRun("o3", "agent:main:o", "x", nil)
	c.await("end of run", 0, func(f frame) bool {
		return f.Event == "chat" && f.get(t, "runId") == "o3" && f.get(t, "state") == "final"
	})
	c.answer(id, 1)
	sim(t, b.g, `{"late_rate":0,"huge_frame_rate":1,"huge_frame_bytes":5000000}`)
	id = c.startRun("o4", "agent:main:o", "x", nil)
	c.answer(id, 1)
	c.await("huge frame", 0, func(f frame) bool { return len(f.raw) > 5_000_000 })
}

func TestSimCrashAndDrain(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	boot := b.g.BootID()
	c := dial(t, b.g)
	sim(t, b.g, `{"crash":true,"down_seconds":0.1}`)
	if code := c.closeCode(); code != -1 {
		t.Fatalf("close %d", code)
	}
	eventually(t, "up again", func() bool { id := b.g.BootID(); return id != "" && id != boot })
	boot = b.g.BootID()
	c = dial(t, b.g)
	sim(t, b.g, `{"drain":true,"down_seconds":0}`)
	if code := c.closeCode(); code != 1012 {
		t.Fatalf("close %d", code)
	}
	eventually(t, "up again", func() bool { id := b.g.BootID(); return id != "" && id != boot })
	c = dial(t, b.g)
	sim(t, b.g, `{"drain":true}`)
	c.closeCode()
	eventually(t, "down", func() bool { return !b.g.Stats().Up })
}

func TestHTTPEndpoints(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	auth := map[string]string{"Authorization": "Bearer " + testToken, "x-openclaw-session-key": "agent:main:http"}
	rows := []struct {
		method, path, body string
		header             map[string]string
		code               int
		want               string
	}{
		{"GET", "/healthz", "", nil, 200, `"live"`},
		{"POST", "/healthz", "", nil, 405, ""},
		{"GET", "/startupz", "", nil, 200, `"started"`},
		{"GET", "/readyz", "", nil, 200, `"ready":true`},
		{"GET", "/", "", nil, 404, ""},
		{"GET", "/v1/models", "", nil, 401, `"unauthorized"`},
		{"GET", "/v1/models", "", auth, 200, `"openclaw"`},
		{"POST", "/v1/chat/completions", `{"model":"gpt","messages":[{"role":"user","content":"x"}]}`, auth, 400, "openclaw"},
		{"POST", "/v1/chat/completions", `{"model":"openclaw","messages":[{"role":"user","content":"hi"}]}`, auth, 200, `ECHO(1): hi`},
		{"POST", "/v1/chat/completions", `{"model":"openclaw","stream":true,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}`, auth, 200, "data: [DONE]"},
	}
	for _, r := range rows {
		if code, body := httpDo(t, b.g, r.method, r.path, r.body, r.header); code != r.code || !strings.Contains(body, r.want) {
			t.Errorf("%s %s: %d %s", r.method, r.path, code, body)
		}
	}
	c := dial(t, b.g)
	if got := replyText(t, c.run("h1", "agent:main:http", "by ws", nil)); got != "ECHO(3): by ws" {
		t.Fatalf("reply %q", got)
	}
	_, _, h := history(t, c, "agent:main:http")
	if text, _ := h.get(t, "messages.2.content").(string); !strings.Contains(text, "User: a\nAssistant: b\n") || !strings.HasSuffix(text, "User: c") {
		t.Fatalf("replayed text %q", text)
	}
}

func TestLogTellsOfWriteErrors(t *testing.T) {
	t.Parallel()
	l := NewLog(brokenWriter{})
	l.write(Line{Event: LogStarted})
	select {
	case <-l.Failed():
	default:
		t.Fatal("a lost line was not told")
	}
	if l.Err() == nil {
		t.Fatal("no error")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestReadLogIgnoresATornLastLine(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	l := NewLog(&buf)
	l.write(Line{RunID: "a"})
	l.write(Line{RunID: "b"})
	cut := buf.Bytes()[:buf.Len()-3]
	lines, err := ReadLog(bytes.NewReader(cut))
	if err != nil || len(lines) != 1 || lines[0].RunID != "a" {
		t.Fatalf("%v %v", lines, err)
	}
	if _, err := ReadLog(strings.NewReader("nonsense\n")); err == nil {
		t.Fatal("nonsense was read")
	}
	var m map[string]any
	if err := json.Unmarshal(bytes.SplitN(buf.Bytes(), []byte("\n"), 2)[0], &m); err != nil || len(m) != 7 {
		t.Fatalf("line has %d fields: %v", len(m), err)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	for _, s := range []string{`{"type":"req","id":"1","method":"health","params":{}}`, `{"type":"req"}`, `[]`, `{`, `{"type":"req","id":"1","method":"agent","params":{"message":"m","timeout":1e3,"deliver":false,"attachments":[]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRequest(data)
		if err != nil {
			if (err == errNotJSON) == json.Valid(data) {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		if r.id == "" || r.method == "" {
			t.Fatalf("%q: accepted without id or method", data)
		}
		for _, name := range listedMethods() {
			m, ok := lookup(name)
			if !ok {
				t.Fatalf("%s is listed and unknown", name)
			}
			p, perr := parseParams(name, m.spec, r.params)
			if perr == nil {
				_ = p.integer("timeout", 0)
				_ = p.str("message")
			} else if perr.Code != "INVALID_REQUEST" {
				t.Fatalf("%q: %v", data, perr)
			}
		}
		if _, no := parseConnect(r.params); no != nil && no.err == nil {
			t.Fatal("refusal without a reason")
		}
	})
}
