package openclawtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testToken = "test-token"
	patience  = 60 * time.Second
)

// memoryLog is a ground-truth log that a test can read at any time.
type memoryLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (m *memoryLog) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.buf.Write(p)
}

func (m *memoryLog) lines(t testing.TB) []Line {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	lines, err := ReadLog(bytes.NewReader(m.buf.Bytes()))
	if err != nil {
		t.Fatalf("read log: %v", err)
	}
	return lines
}

// events of one run in order, as "accepted started finished".
func (m *memoryLog) story(t testing.TB, runID string) string {
	t.Helper()
	var words []string
	for _, l := range m.lines(t) {
		if l.RunID == runID {
			words = append(words, l.Event)
		}
	}
	return strings.Join(words, " ")
}

type bundle struct {
	g   *Gateway
	log *memoryLog
}

func setup(t testing.TB, change func(*Config)) bundle {
	t.Helper()
	log := &memoryLog{}
	cfg := Config{Name: "gw-test", Token: testToken, TimeScale: 0.01, Seed: 1, Log: NewLog(log), ReportBytes: -1}
	if change != nil {
		change(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	ctx := testContext(t)
	if err := g.Start(ctx); err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		if err := g.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return bundle{g, log}
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// frame is anything a gateway sends.
type frame struct {
	Type    string          `json:"type"`
	ID      string          `json:"id"`
	OK      bool            `json:"ok"`
	Event   string          `json:"event"`
	Seq     uint64          `json:"seq"`
	Payload json.RawMessage `json:"payload"`
	Error   *struct {
		Code         string         `json:"code"`
		Message      string         `json:"message"`
		Details      map[string]any `json:"details"`
		Retryable    bool           `json:"retryable"`
		RetryAfterMs int            `json:"retryAfterMs"`
	} `json:"error"`
	raw []byte
}

func (f frame) object(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(f.Payload, &m); err != nil {
		t.Fatalf("payload of %s: %v", f.raw, err)
	}
	return m
}

func (f frame) get(t testing.TB, path string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(f.Payload, &v); err != nil {
		t.Fatalf("payload of %s: %v", f.raw, err)
	}
	for _, step := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// client is a plain test client; it keeps every frame in order.
type client struct {
	t      testing.TB
	ws     *websocket.Conn
	mu     sync.Mutex
	frames []frame
	closed error
	news   chan struct{}
	nextID int
	done   chan struct{}
}

func dialRaw(t testing.TB, g *Gateway, header http.Header) *client {
	t.Helper()
	ws, _, err := websocket.Dial(testContext(t), g.URL(), &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	ws.SetReadLimit(64 << 20)
	c := &client{t: t, ws: ws, news: make(chan struct{}, 1), done: make(chan struct{})}
	go c.read()
	t.Cleanup(func() {
		_ = ws.CloseNow()
		<-c.done
	})
	return c
}

func (c *client) read() {
	defer close(c.done)
	for {
		_, data, err := c.ws.Read(context.Background())
		f := frame{raw: data}
		c.mu.Lock()
		if err != nil {
			c.closed = err
		} else {
			if json.Unmarshal(data, &f) != nil {
				f.Type = "garbage"
			}
			c.frames = append(c.frames, f)
		}
		c.mu.Unlock()
		select {
		case c.news <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// await returns the first frame from index from on that match accepts.
func (c *client) await(what string, from int, match func(frame) bool) (frame, int) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		for i := from; i < len(c.frames); i++ {
			if match(c.frames[i]) {
				defer c.mu.Unlock()
				return c.frames[i], i
			}
		}
		from = len(c.frames)
		closed := c.closed
		c.mu.Unlock()
		if closed != nil {
			c.t.Fatalf("waiting for %s: socket closed: %v", what, closed)
		}
		select {
		case <-c.news:
		case <-deadline:
			c.t.Fatalf("no %s within %s", what, patience)
		}
	}
}

// closeCode waits for the end of the socket; -1 is an end without a close frame.
func (c *client) closeCode() websocket.StatusCode {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		c.t.Fatal("socket did not end")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return websocket.CloseStatus(c.closed)
}

func (c *client) write(data string) {
	c.t.Helper()
	if err := c.ws.Write(testContext(c.t), websocket.MessageText, []byte(data)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// start sends a request and returns its id.
func (c *client) start(method string, params any) string {
	c.t.Helper()
	c.nextID++
	id := fmt.Sprint("r", c.nextID)
	c.write(string(encode(map[string]any{"type": "req", "id": id, "method": method, "params": params})))
	return id
}

// answer is the n-th answer (from 0) to a request.
func (c *client) answer(id string, n int) frame {
	c.t.Helper()
	f, at := c.await("answer to "+id, 0, func(f frame) bool { return f.Type == "res" && f.ID == id })
	for ; n > 0; n-- {
		f, at = c.await("next answer to "+id, at+1, func(f frame) bool { return f.Type == "res" && f.ID == id })
	}
	return f
}

func (c *client) call(method string, params any) frame {
	c.t.Helper()
	return c.answer(c.start(method, params), 0)
}

// must is call for requests that succeed.
func (c *client) must(method string, params any) frame {
	c.t.Helper()
	f := c.call(method, params)
	if !f.OK {
		c.t.Fatalf("%s: %s", method, f.raw)
	}
	return f
}

type obj = map[string]any

func connectWith(change func(obj)) obj {
	p := obj{
		"minProtocol": 3, "maxProtocol": 4,
		"client": obj{"id": "gateway-client", "version": "0.1.0", "platform": "linux", "mode": "backend"},
		"role":   "operator", "scopes": []string{"operator.read", "operator.write", "operator.admin"},
		"auth": obj{"token": testToken},
	}
	if change != nil {
		change(p)
	}
	return p
}

func dial(t testing.TB, g *Gateway) *client {
	t.Helper()
	c := dialRaw(t, g, nil)
	c.must("connect", connectWith(nil))
	return c
}

// startRun sends `agent` and waits for accepted.
func (c *client) startRun(runID, key, message string, more obj) string {
	c.t.Helper()
	p := obj{"message": message, "idempotencyKey": runID, "sessionKey": key, "deliver": false}
	for k, v := range more {
		p[k] = v
	}
	id := c.start("agent", p)
	if f := c.answer(id, 0); !f.OK || f.get(c.t, "status") != "accepted" {
		c.t.Fatalf("agent %s: %s", runID, f.raw)
	}
	return id
}

// run sends `agent` and returns its final answer.
func (c *client) run(runID, key, message string, more obj) frame {
	c.t.Helper()
	return c.answer(c.startRun(runID, key, message, more), 1)
}

func replyText(t testing.TB, f frame) string {
	t.Helper()
	s, _ := f.get(t, "result.payloads.0.text").(string)
	return s
}

// eventually polls cond, for what no event tells.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// httpDo returns status and body.
func httpDo(t testing.TB, g *Gateway, method, path, body string, header map[string]string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(testContext(t), method, "http://"+g.Addr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		return 0, err.Error()
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(data)
}
