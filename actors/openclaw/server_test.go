package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testToken = "test-token-0123456789"

const challenge = `{"type":"event","event":"connect.challenge","payload":{"nonce":"n","ts":1}}`

// helloWith builds a hello-ok answer; edit changes the payload before encoding.
func helloWith(edit func(map[string]any)) string {
	p := map[string]any{
		"type": "hello-ok", "protocol": 4,
		"server":   map[string]any{"version": "2026.9.6", "buildId": "b", "bootId": "boot-1", "connId": "conn-1"},
		"features": map[string]any{"methods": methodNames()},
		"snapshot": map[string]any{"uptimeMs": 1234.5, "suspension": map[string]any{"phase": "accepting"}},
		"auth":     map[string]any{"scopes": scopesWanted[:]},
		"policy":   map[string]any{"maxPayload": 26214400, "maxBufferedBytes": 52428800, "tickIntervalMs": 30000},
	}
	if edit != nil {
		edit(p)
	}
	b, err := json.Marshal(map[string]any{"type": "res", "id": connectID, "ok": true, "payload": p})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func methodNames() []string {
	names := make([]string, 0, len(requiredMethods))
	for _, m := range requiredMethods {
		names = append(names, m.name)
	}
	return names
}

// peer is the gateway's side of one connection in a test.
type peer struct {
	t  testing.TB
	ws *websocket.Conn
}

type request struct {
	ID     string          `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Trace  string          `json:"traceparent"`
}

func (p *peer) send(frames ...string) {
	for _, f := range frames {
		if err := p.ws.Write(p.t.Context(), websocket.MessageText, []byte(f)); err != nil {
			return // the client has left; the test sees why
		}
	}
}

// recv returns the next request, false when the client has left.
func (p *peer) recv() (request, bool) {
	_, b, err := p.ws.Read(p.t.Context())
	if err != nil {
		return request{}, false
	}
	var r request
	if err := json.Unmarshal(b, &r); err != nil {
		p.t.Errorf("client sent %q: %v", b, err)
	}
	return r, true
}

func (p *peer) respond(r request, payload string) {
	p.send(`{"type":"res","id":"` + r.ID + `","ok":true,"payload":` + payload + `}`)
}

func (p *peer) refuse(r request, errorBody string) {
	p.send(`{"type":"res","id":"` + r.ID + `","ok":false,"error":` + errorBody + `}`)
}

// serveRaw starts a WebSocket server that runs serve per connection.
func serveRaw(t testing.TB, serve func(*peer)) Config {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" {
			t.Errorf("client sent Origin %q", r.Header.Get("Origin"))
		}
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		ws.SetReadLimit(-1)
		serve(&peer{t: t, ws: ws})
		_ = ws.CloseNow()
	}))
	t.Cleanup(srv.Close)
	return Config{URL: "ws" + strings.TrimPrefix(srv.URL, "http"), Token: testToken, Version: "test", DialTimeout: 10 * time.Second}
}

// serve starts a gateway that shakes hands and then runs talk.
func serve(t testing.TB, talk func(*peer)) Config {
	t.Helper()
	return serveRaw(t, func(p *peer) {
		p.send(challenge)
		r, ok := p.recv()
		if !ok || r.Method != "connect" {
			t.Errorf("first request: %v %q", ok, r.Method)
			return
		}
		p.send(helloWith(nil))
		talk(p)
	})
}

func dial(t testing.TB, cfg Config, h Handler) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), cfg, h)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

func refusal(t testing.TB, cfg Config) *RefusedError {
	t.Helper()
	c, err := Dial(t.Context(), cfg, nil)
	if err == nil {
		c.Close()
		t.Fatal("dial succeeded, want a refusal")
	}
	var r *RefusedError
	if !errors.As(err, &r) {
		t.Fatalf("dial: %T %v, want *RefusedError", err, err)
	}
	return r
}

func nextOf[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case v := <-ch:
		return v
	case <-ctx.Done():
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// drain answers nothing until the client leaves.
func (p *peer) drain() {
	for {
		if _, ok := p.recv(); !ok {
			return
		}
	}
}
