package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// canaries are texts that each stand for one kind of secret and occur nowhere
// else, so that a single one in an output tells what leaked, and where.
type canaries map[string]string

func newCanaries() canaries {
	c := canaries{}
	for _, kind := range []string{
		"gateway token", "new gateway token", "refused gateway token", "managed env", "managed config", "wrong key", "query token", "cookie",
		"basic password", "websocket token", "idempotency key", "redis password", "user password", "backup passphrase",
	} {
		c[kind] = fmt.Sprintf("c4n4ry-%d-%s", len(c), strings.Repeat("x", 6))
	}
	return c
}

// leaks looks for every canary in one place.
func (c canaries) leaks(t *testing.T, place, text string) {
	t.Helper()
	for kind, secret := range c {
		if secret != "" && strings.Contains(text, secret) {
			at := strings.Index(text, secret)
			t.Errorf("%s: the %s leaks: …%s…", place, kind, text[max(0, at-80):min(len(text), at+len(secret)+20)])
		}
	}
}

// canaryNode is a node that is driven with secrets; what it answers is searched.
type canaryNode struct {
	*drillNode
	t *testing.T
	c canaries
}

// send makes a request and looks into the answer, whatever it is.
func (n *canaryNode) send(method, path, body string, header ...string) (int, string) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.url+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.key)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	n.c.leaks(n.t, method+" "+path, string(raw)+fmt.Sprint(resp.Header))
	return resp.StatusCode, string(raw)
}

// want is send for a request that must end with a status.
func (n *canaryNode) want(status int, method, path, body string, header ...string) {
	n.t.Helper()
	if code, answer := n.send(method, path, body, header...); code != status {
		n.t.Errorf("%s %s: %d, want %d: %s", method, path, code, status, answer)
	}
}

// TestNoSecretLeaks drives a real node with one canary for each kind of secret,
// provokes errors with them, and finds none in logs, events, metrics, answers,
// the audit log, outputs of commands, the dump of all goroutines, the store, or
// its archives.
func TestNoSecretLeaks(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			c, dir := newCanaries(), t.TempDir()
			data := filepath.Join(dir, "data")
			node := serveDrill(t, data, "", place{flags: []string{
				"--sim-gateways", "1", "--log-level", "debug", "--log-format", format,
				"--redis-url", "redis://user:" + c["redis password"] + "@127.0.0.1:1/0",
			}})
			c["admin key"] = node.key
			n := &canaryNode{drillNode: node, t: t, c: c}
			n.makeThings()
			n.makeErrors()
			for _, path := range []string{"/metrics", "/api/v1/audit", "/api/v1/gateways", "/api/v1/keys", "/api/v1/users", "/api/v1/tasks", "/health", "/api/v1/queue"} {
				n.want(http.StatusOK, "GET", path, "")
			}
			n.lookAtEvents()
			n.lookAtCommands(dir, data)

			// The log, and every goroutine with what it holds.
			if err := n.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
				t.Fatal(err)
			}
			out := <-n.output
			_ = n.cmd.Wait() // SIGQUIT is no good end
			if !strings.Contains(out, "goroutine ") || !strings.Contains(out, "request_id") {
				t.Fatalf("neither a dump nor a log: %.2000s", out)
			}
			c.leaks(t, "log", out)
			n.lookAtFiles(data)
		})
	}
}

func (n *canaryNode) makeThings() {
	n.t.Helper()
	c := n.c
	n.want(201, "POST", "/api/v1/gateways", `{"id":"plain","url":"ws://127.0.0.1:1","token":"`+c["gateway token"]+`"}`)
	n.want(200, "PATCH", "/api/v1/gateways/plain", `{"url":"ws://127.0.0.1:2","token":"`+c["new gateway token"]+`"}`)
	// This node starts no gateways, and says so without a word of what it was to run.
	n.want(422, "POST", "/api/v1/gateways", `{"id":"kept","managed":{"env":{"OPENAI_API_KEY":"`+c["managed env"]+`"},"config":{"models":{"apiKey":"`+c["managed config"]+`"}}}}`)
	n.want(202, "POST", "/api/v1/tasks", `{"priority":"high","input":{"message":"hello"}}`, "Idempotency-Key", c["idempotency key"])
	n.want(201, "POST", "/api/v1/users", `{"email":"a@example.com","password":"`+c["user password"]+`"}`)
	// A made key is told once, in the answer: from then on it is a canary, too.
	var k struct{ ID, Key string }
	if code, err := n.call(n.t.Context(), "POST", "/api/v1/keys", `{"name":"k","permissions":["read"]}`, &k); err != nil || code != 201 {
		n.t.Fatalf("create a key: %d %v", code, err)
	}
	c["api key"] = k.Key
	n.want(200, "GET", "/api/v1/tasks", "", "Authorization", "Bearer "+k.Key)
	n.want(403, "POST", "/api/v1/gateways", `{"id":"no","url":"ws://127.0.0.1:3","token":"`+c["refused gateway token"]+`"}`, "Authorization", "Bearer "+k.Key)
}

func (n *canaryNode) makeErrors() {
	n.t.Helper()
	c := n.c
	n.want(409, "POST", "/api/v1/gateways", `{"id":"plain","url":"ws://127.0.0.1:9","token":"`+c["refused gateway token"]+`"}`)
	for _, body := range []string{
		`{"id":"bad","url":"ws://user:` + c["refused gateway token"] + `@h","token":"t"}`, // a password where none belongs
		`{"id":"bad","token":"` + c["refused gateway token"],                              // cut
		`{"id":"bad","token":["` + c["refused gateway token"] + `"]}`,                     // of another type
		`{"id":"bad","url":"ws://h","tokens":"` + c["refused gateway token"] + `"}`,       // misspelt
	} {
		if code, _ := n.send("POST", "/api/v1/gateways", body); code < 400 || code >= 500 {
			n.t.Errorf("%d for a request that is not valid", code)
		}
	}
	for _, credential := range []string{
		"Bearer " + c["wrong key"], "Bearer dash_aaaaaaaaaaaa_" + c["wrong key"], "Basic " + c["basic password"], c["wrong key"], "Bearer eyJhbGciOiJub25lIn0.e30." + c["wrong key"],
	} {
		if code, _ := n.send("GET", "/api/v1/tasks", "", "Authorization", credential, "Cookie", "session="+c["cookie"]); code != 401 && code != 400 {
			n.t.Errorf("%d with a wrong credential", code)
		}
	}
	n.send("GET", "/api/v1/tasks?token="+c["query token"], "")
	n.send("GET", "/metrics?api_key="+c["query token"], "", "Authorization", "")
	n.send("GET", "/events?access_token="+c["websocket token"], "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
		"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Authorization", "Bearer "+c["websocket token"])
	n.send("POST", "/api/v1/gateways/plain/restart", "")
	n.send("DELETE", "/api/v1/gateways/none", "")
}

// lookAtEvents reads the log of events from its beginning.
func (n *canaryNode) lookAtEvents() {
	n.t.Helper()
	for _, r := range []string{"/api/v1/events?since=0"} {
		req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, n.url+r, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+n.key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			n.t.Fatal(err)
		}
		var got bytes.Buffer
		buf := make([]byte, 4096)
		for !strings.Contains(got.String(), `"succeeded"`) && got.Len() < 1<<20 { // the task's end is the last thing that was done
			k, err := resp.Body.Read(buf)
			got.Write(buf[:k])
			if err != nil {
				n.t.Fatalf("events: %v after %s", err, got.String())
			}
		}
		_ = resp.Body.Close() // the stream has no end of its own
		n.c.leaks(n.t, "events", got.String())
	}
}

func (n *canaryNode) lookAtCommands(dir, data string) {
	n.t.Helper()
	pass := filepath.Join(dir, "pass")
	if err := os.WriteFile(pass, []byte(n.c["backup passphrase"]+"\n"), 0o600); err != nil {
		n.t.Fatal(err)
	}
	archive := filepath.Join(dir, "archive")
	for _, args := range [][]string{
		{"gateway", "list", "-o", "json"}, {"gateway", "show", "plain", "-o", "yaml"}, {"audit", "list", "-o", "jsonl"}, {"key", "list", "-o", "wide"},
		{"doctor"}, {"task", "list"}, {"gateway", "show", "none"},
		{"backup", archive, "--data", data}, {"backup", archive + ".age", "--data", data, "--passphrase-file", pass},
		{"restore", archive + ".age", "--dry-run", "--passphrase-file", pass}, {"restore", archive + ".age", "--dry-run", "--passphrase-file", n.keyFile},
		{"config", "--data", data, "--redis-url", "redis://user:" + n.c["redis password"] + "@127.0.0.1:1/0"},
	} {
		cmd := drillCommand(n.t.Context(), n.t, args...)
		cmd.Env = append(cmd.Env, "DASH_URL="+n.url, "DASH_API_KEY="+n.key)
		out, _ := cmd.CombinedOutput() // some are to fail
		n.c.leaks(n.t, "dash "+args[0], string(out))
	}
	raw, err := os.ReadFile(archive)
	if err != nil {
		n.t.Fatal(err)
	}
	z, err := zstd.NewReader(bytes.NewReader(raw))
	if err != nil {
		n.t.Fatal(err)
	}
	defer z.Close()
	text, err := io.ReadAll(z)
	if err != nil || !bytes.Contains(text, []byte("plain")) {
		n.t.Fatalf("the archive says nothing of the gateway: %v", err)
	}
	n.c.without("idempotency key").leaks(n.t, "archive", string(text)) // it is part of the task, so that a repetition finds it
}

// without leaves a kind out.
func (c canaries) without(kind string) canaries {
	some := canaries{}
	for k, v := range c {
		if k != kind {
			some[k] = v
		}
	}
	return some
}

// lookAtFiles reads what the node has left on the disk: the key's own file holds
// the key, the folder of a managed gateway what its process is given, and nothing
// else anything.
func (n *canaryNode) lookAtFiles(data string) {
	n.t.Helper()
	c := n.c.without("idempotency key")
	err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && path == filepath.Join(data, "gateways") {
			return fs.SkipDir
		}
		if err != nil || !e.Type().IsRegular() || path == n.keyFile {
			return err
		}
		raw, err := os.ReadFile(path)
		c.leaks(n.t, "file "+filepath.Base(path), string(raw))
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
}
