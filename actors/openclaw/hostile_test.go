package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// ignoredCount reads one label of the ignored counter.
func ignoredCount(m *Metrics, reason string) float64 {
	return testutil.ToFloat64(m.ignored.WithLabelValues(reason))
}

func TestGarbageIsIgnoredAndCounted(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	cfg := serve(t, func(p *peer) {
		r, _ := p.recv()
		p.send(
			"", "x", "[]", "null", "{", `{"type":"res"`, `{"a":}`, // 7 garbage
			`{"type":"surprise"}`, // garbage
			`{"type":"event","event":"x","payload":`+deep+`}`,    // depth
			`{"type":"res","id":"77","ok":true,"payload":{}}`,    // unknown id
			`{"type":"res","id":"invalid","ok":false}`,           // unknown id
			`{"type":"res","id":77,"ok":true}`,                   // unknown id
			`{"type":"res","id":"1","ok":true,"payload":{}}`,     // late: the handshake's
			`{"type":"event","event":"never.heard","payload":1}`, // unknown event
			`{"type":"event","event":"agent","payload":null}`,    // event
			`{"type":"event","event":"agent","payload":{"runId":1,"stream":"assistant"}}`,
			`{"type":"event","event":"agent","payload":{"runId":"r","stream":"assistant","data":{"text":7}}}`,
			`{"type":"event","event":"agent","payload":{"runId":"r","stream":"lifecycle","data":[]}}`,
			`{"type":"event","event":"chat","payload":{"runId":"r","state":"odd"}}`,
			`{"type":"event","event":"gateway.suspension","payload":{}}`,
		)
		if err := p.ws.Write(t.Context(), websocket.MessageBinary, []byte("bin")); err != nil {
			t.Errorf("write: %v", err)
		}
		p.respond(r, `{"runId":"r1","status":"accepted"}`)
		p.respond(r, `{"runId":"r1","status":"accepted"}`) // duplicate
		p.respond(r, `{"runId":"r1","status":"ok","result":{"payloads":[{"text":"fine"}]}}`)
		p.respond(r, `{"runId":"r1","status":"ok","result":{"payloads":[{"text":"again"}]}}`) // late
		r, _ = p.recv()
		p.respond(r, `{"ok":true}`)
		p.drain()
	})
	cfg.Metrics = NewMetrics(nil)
	c := dial(t, cfg, nil)
	answers := make(chan AgentAnswer, 8)
	if err := c.Agent(turn("r1"), func(a AgentAnswer) { answers <- a }); err != nil {
		t.Fatal(err)
	}
	if a := nextOf(t, answers); a.Kind != AnswerAccepted {
		t.Errorf("first %+v", a)
	}
	if a := nextOf(t, answers); a.Kind != AnswerFinal || a.Text != "fine" {
		t.Errorf("second %+v", a)
	}
	if _, err := c.Health(t.Context()); err != nil { // everything before has been read
		t.Errorf("health after the garbage: %v", err)
	}
	if len(answers) > 0 {
		t.Errorf("one answer too many: %+v", <-answers)
	}
	for reason, want := range map[string]float64{
		ignoredGarbage: 8, ignoredDepth: 1, ignoredUnknownID: 3, ignoredLate: 2, ignoredDuplicate: 1, ignoredEvent: 6, ignoredBinary: 1,
	} {
		if got := ignoredCount(cfg.Metrics, reason); got != want {
			t.Errorf("ignored %s: %v, want %v", reason, got, want)
		}
	}
	if got := testutil.ToFloat64(cfg.Metrics.unknown); got != 1 {
		t.Errorf("unknown events %v, want 1", got)
	}
}

// closedBy waits for the end and returns its cause.
func closedBy(t *testing.T, c *Conn) *ClosedError {
	t.Helper()
	nextOf(t, c.Done())
	var e *ClosedError
	if !errors.As(c.Err(), &e) {
		t.Fatalf("err %v, want *ClosedError", c.Err())
	}
	return e
}

func TestTooMuchGarbageCutsTheLink(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) {
		for range 10 {
			p.send("garbage")
		}
		p.drain()
	})
	cfg.MaxBadFrames = 10
	if e := closedBy(t, dial(t, cfg, nil)); !errors.Is(e, errGarbage) {
		t.Errorf("closed %v", e)
	}
}

func TestHugeFrameCutsTheLink(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) {
		p.send(`{"type":"event","event":"` + strings.Repeat("x", 70<<10) + `"}`)
		p.drain()
	})
	cfg.MaxFrame = 64 << 10
	if e := closedBy(t, dial(t, cfg, nil)); e.Code != CloseTooBig || !errors.Is(e, websocket.ErrMessageTooBig) {
		t.Errorf("closed %v", e)
	}
}

func TestSilentLinkIsCut(t *testing.T) {
	t.Parallel()
	cfg := serveRaw(t, func(p *peer) {
		p.send(challenge)
		p.recv()
		p.send(helloWith(func(m map[string]any) { m["policy"] = map[string]any{"tickIntervalMs": 1} }))
		p.drain()
	})
	cfg.SilenceFloor = 50 * time.Millisecond
	if e := closedBy(t, dial(t, cfg, nil)); !errors.Is(e, errSilent) || e.Code != CloseAbnormal {
		t.Errorf("closed %v", e)
	}
}

type shutdowns struct {
	NopHandler
	seen chan Shutdown
}

func (h shutdowns) Shutdown(s Shutdown) { h.seen <- s }

func TestRestartIsAnnounced(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) {
		p.send(`{"type":"event","event":"shutdown","seq":1,"payload":{"reason":"gateway restarting","restartExpectedMs":1500}}`)
		_ = p.ws.Close(CloseRestart, "service restart")
	})
	h := shutdowns{seen: make(chan Shutdown, 1)}
	c := dial(t, cfg, h)
	want := Shutdown{Reason: "gateway restarting", Restarting: true, RestartExpected: 1500 * time.Millisecond}
	if got := nextOf(t, h.seen); got != want {
		t.Errorf("shutdown %+v, want %+v", got, want)
	}
	if e := closedBy(t, c); e.Code != CloseRestart || e.Shutdown == nil || *e.Shutdown != want || e.Reason != "service restart" {
		t.Errorf("closed %+v", e)
	}
}

func TestLocalClose(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) { p.drain() })
	c := dial(t, cfg, nil)
	if c.Err() != nil {
		t.Errorf("err of a living connection: %v", c.Err())
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(c.Close)
	}
	wg.Wait()
	if e := closedBy(t, c); !e.Local {
		t.Errorf("closed %+v, want local", e)
	}
	if err := c.Call(t.Context(), "health", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("call after close: %v", err)
	}
}

// A peer that neither reads nor closes must not keep Close waiting.
func TestCloseOfADeafPeer(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	cfg := serve(t, func(*peer) { <-release })
	defer close(release)
	c := dial(t, cfg, nil)
	start := time.Now()
	c.Close()
	if took := time.Since(start); took > 10*closeGrace {
		t.Errorf("close took %s", took)
	}
}

func TestBoundsOfTheQueue(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	cfg := serve(t, func(p *peer) {
		<-release
		p.drain()
	})
	defer close(release)
	cfg.MaxPending = 3
	c := dial(t, cfg, nil)
	for i := range 3 {
		if err := c.Agent(turn(fmt.Sprint(i)), func(AgentAnswer) {}); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if err := c.Agent(turn("one too many"), func(AgentAnswer) { t.Error("answer for a refused request") }); !errors.Is(err, ErrBusy) {
		t.Errorf("fourth request: %v, want ErrBusy", err)
	}
	if err := c.Call(t.Context(), "health", nil, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("call: %v, want ErrBusy", err)
	}
	big := turn("big")
	big.Message = strings.Repeat("x", 27<<20)
	var rpc *RPCError
	if err := c.Agent(big, nil); !errors.As(err, &rpc) || rpc.Code != "TOO_LARGE" {
		t.Errorf("a message over the gateway's limit: %v", err)
	}
}

func TestAgentRequestValidation(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) { p.drain() })
	c := dial(t, cfg, nil)
	for name, edit := range map[string]func(*AgentRequest){
		"no run id":   func(r *AgentRequest) { r.RunID = "" },
		"long run id": func(r *AgentRequest) { r.RunID = strings.Repeat("x", 257) },
		"no session":  func(r *AgentRequest) { r.SessionKey = "" },
		"long key":    func(r *AgentRequest) { r.SessionKey = strings.Repeat("x", 513) },
		"no message":  func(r *AgentRequest) { r.Message = "" },
		"no timeout":  func(r *AgentRequest) { r.Timeout = 0 },
	} {
		r := turn("r")
		edit(&r)
		if err := c.Agent(r, func(AgentAnswer) { t.Error("answered") }); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFramesLeaveInCallOrder(t *testing.T) {
	t.Parallel()
	const n = 500
	got := make(chan string, n)
	cfg := serve(t, func(p *peer) {
		for range n {
			r, ok := p.recv()
			if !ok {
				return
			}
			var params struct {
				Key string `json:"idempotencyKey"`
			}
			if err := json.Unmarshal(r.Params, &params); err != nil {
				t.Error(err)
			}
			got <- params.Key
		}
		p.drain()
	})
	c := dial(t, cfg, nil)
	for i := range n {
		if err := c.Agent(turn(fmt.Sprint(i)), func(AgentAnswer) {}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if key := nextOf(t, got); key != fmt.Sprint(i) {
			t.Fatalf("frame %d is %s", i, key)
		}
	}
}

func TestCallErrors(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) {
		for {
			r, ok := p.recv()
			if !ok {
				return
			}
			switch r.Method {
			case "missing":
				p.send(`{"type":"res","id":"` + r.ID + `","ok":true}`)
			case "null":
				p.respond(r, "null")
			case "wrong":
				p.respond(r, `{"ok":{}}`)
			case "no":
				p.refuse(r, `{"code":"FORBIDDEN","message":"missing scope: operator.write","retryable":false}`)
			case "undefined":
				p.send(`{"type":"res","id":"` + r.ID + `","ok":false}`)
			case "okless":
				p.send(`{"type":"res","id":"` + r.ID + `","payload":{"ok":true}}`)
			}
		}
	})
	c := dial(t, cfg, nil)
	var out struct {
		OK bool `json:"ok"`
	}
	for method, check := range map[string]func(error) bool{
		"missing":   isA[*AnswerError],
		"null":      isA[*AnswerError],
		"wrong":     isA[*AnswerError],
		"undefined": isA[*RPCError],
		"okless":    isA[*RPCError],
		"no": func(err error) bool {
			var e *RPCError
			return errors.As(err, &e) && e.MissingScope() && !e.Unavailable()
		},
	} {
		if err := c.Call(t.Context(), method, nil, &out); !check(err) {
			t.Errorf("%s: %T %v", method, err, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	var lost *LostError
	if err := c.Call(ctx, "never", nil, nil); !errors.As(err, &lost) || !lost.Written || !lost.Timeout() {
		t.Errorf("a call without an answer: %v", err)
	}
	if err := c.Call(ctx, "never", nil, nil); !errors.As(err, &lost) || lost.Written {
		t.Errorf("a call after its deadline: %v", err)
	}
	if err := c.Call(t.Context(), "x", map[string]any{"f": func() {}}, nil); err == nil {
		t.Error("params that cannot be encoded were sent")
	}
}

func isA[T error](err error) bool {
	var e T
	return errors.As(err, &e)
}

func TestLateAnswerAfterATimeout(t *testing.T) {
	t.Parallel()
	asked, answered := make(chan request, 1), make(chan struct{})
	cfg := serve(t, func(p *peer) {
		r, _ := p.recv()
		asked <- r
		<-answered
		p.respond(r, `{"late":true}`)
		r, _ = p.recv()
		p.respond(r, `{"ok":true}`)
		p.drain()
	})
	cfg.Metrics = NewMetrics(nil)
	c := dial(t, cfg, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	var lost *LostError
	if err := c.Call(ctx, "slow", nil, nil); !errors.As(err, &lost) || !lost.Written {
		t.Errorf("cancelled call: %v", err)
	}
	close(answered)
	if _, err := c.Health(t.Context()); err != nil {
		t.Errorf("health: %v", err)
	}
	if got := ignoredCount(cfg.Metrics, ignoredLate); got != 1 {
		t.Errorf("late answers %v, want 1", got)
	}
}
