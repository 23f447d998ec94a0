package openclaw

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// manyOf is a payload of n bytes or so that is a list of as many elements.
func manyOf(member, element string, n int) string {
	return `{"` + member + `":[` + strings.Repeat(element+",", n/(len(element)+1)) + element + `]}`
}

// Every list is refused while it is scanned, at the first row too many, and what
// that costs does not depend on how many there are.
func TestManyElementsCostNothing(t *testing.T) {
	const size = 2 << 20
	c := newConn(t.Context(), Config{}.withDefaults(), NopHandler{})
	all := func([]byte) bool { return true }
	for name, decode := range map[string]func([]byte) error{
		"sessions.list": func(b []byte) error { return second(decodeSessions(b, 64, 100, 0, all)) },
		"chat.history":  func(b []byte) error { return second(decodeHistory(b, 64, 200, DefaultMaxText)) },
		"tasks.list":    func(b []byte) error { return second(decodeSubAgents(b, 64, "k")) },
		"lanes":         func(b []byte) error { return second(decodeLanes(b, 64)) },
		"payloads":      func(b []byte) error { return second(decodeResult(b, 64, DefaultMaxText)) },
		"spawns": func(b []byte) error {
			r, err := decodeResult(b, 64, 1)
			return errors.Join(err, atLeast(r.spawned, maxSubAgents))
		},
		"hello": func(b []byte) error { return second(decodeHello(b)) },
		"event": func(b []byte) error { c.agentEvent(b); c.chatEvent(b); c.taskEvent(b); return errNoObject },
		"wait":  func(b []byte) error { return second(c.decodeRunStatus(b)) },
		"error": func(b []byte) error { _ = decodeError("x", b, 64, c.clean); return errNoObject },
	} {
		member := map[string]string{"sessions.list": "sessions", "chat.history": "messages", "tasks.list": "tasks", "lanes": "lanes", "payloads": "payloads", "spawns": "acceptedSessionSpawns"}[name]
		for _, element := range []string{"{}", "[]", `""`, "1", `{"role":"user","content":[{},{}]}`} {
			b := []byte(manyOf(member, element, size))
			if name == "hello" {
				b = []byte(`{"server":{"bootId":"b"},"features":` + manyOf("methods", element, size) + `}`)
			}
			var err error
			if got := allocated(func() { err = decode(b) }); got > 3*size && name == "hello" || got > 1<<20 && name != "hello" {
				t.Errorf("%s of %s: %d kB were allocated", name, element, got>>10)
			}
			if err == nil && !(name == "lanes" && size/len(element) < maxLanes) {
				t.Errorf("%s of %s was taken", name, element)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// atLeast is an error, as of a list that was refused.
func atLeast(n, most int) error {
	if n > most {
		panic(fmt.Sprintf("counted %d", n))
	}
	return errNotList
}

// allocated is how many bytes f takes from the heap.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Texts are cut while they are decoded, and hold no more memory than they have.
func TestLongTextsAreCutWhileDecoded(t *testing.T) {
	long := `"` + strings.Repeat("x", 8<<20) + `"`
	raw := []byte(`{"status":` + long + `,"summary":` + long + `,"runId":` + long + `,"result":{"meta":{"error":{"message":` + long + `}},"payloads":[{"text":"ok","isError":true}]}}`)
	if got := allocated(func() {
		p, err := decodeAgentPayload(raw, 64)
		if err != nil || len(p.summary) > maxWord || len(p.runID) > maxWord {
			t.Errorf("%d %d %v", len(p.summary), len(p.runID), err)
		}
	}); got > 1<<20 {
		t.Errorf("%d kB were allocated", got>>10)
	}
	short := []byte(`"` + strings.Repeat(`\u0041`, 1000) + `"`)
	if s, cut, ok := quoted(short, 1<<20); !ok || cut != 0 || s != strings.Repeat("A", 1000) {
		t.Errorf("%d bytes, cut from %d, %v", len(s), cut, ok)
	}
}

// Of a history with more text than is kept, the oldest is cut and marked, and is
// a reply all the same.
func TestOldestTextsOfAHistoryAreCut(t *testing.T) {
	t.Parallel()
	var items []string
	for i := range 4 {
		items = append(items, fmt.Sprintf(`{"role":"user","content":"q","idempotencyKey":"r%d:user"},{"role":"assistant","content":%q,"stopReason":"stop"}`, i, strings.Repeat(fmt.Sprint(i), 80)))
	}
	h, err := decodeHistory([]byte(`{"messages":[`+strings.Join(items, ",")+`]}`), 64, 8, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 38, 80, 80} { // 200 in all, with a byte of each question
		tr := h.Trace(fmt.Sprintf("r%d", i))
		if !tr.Answered || len(tr.Text) != want || (tr.CutFrom == 80) != (want < 80) {
			t.Errorf("reply %d: answered %v, %d bytes of %d; want %d", i, tr.Answered, len(tr.Text), tr.CutFrom, want)
		}
	}
}

// A large answer to a call that has small ones is refused by its size.
func TestSmallAnswersAreBounded(t *testing.T) {
	t.Parallel()
	c, _ := answering(t, map[string]string{"system.info": `{"x":"` + strings.Repeat("x", maxSmall) + `"}`, "health": `{"ok":true}`})
	if _, err := c.SystemInfo(t.Context()); !isA[*AnswerError](err) {
		t.Errorf("a large answer: %v", err)
	}
	if _, err := c.Health(t.Context()); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
}

// A reply for which there is no room ends the connection: its request is lost,
// not answered.
func TestReplyWithoutRoomCutsTheLink(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) {
		r, _ := p.recv()
		p.respond(r, `{"runId":"r1","status":"accepted"}`)
		p.respond(r, `{"runId":"r1","status":"ok","result":{"payloads":[{"text":"`+strings.Repeat("x", FreeText+1)+`"}]}}`)
		p.drain()
	})
	cfg.Metrics = NewMetrics(nil)
	full := errors.New("full")
	asked := make(chan int, 1)
	cfg.Hold = func(_ string, n int) error { asked <- n; return full }
	c := dial(t, cfg, nil)
	answers := make(chan AgentAnswer, 4)
	if err := c.Agent(turn("r1"), func(a AgentAnswer) { answers <- a }); err != nil {
		t.Fatal(err)
	}
	if a := nextOf(t, answers); a.Kind != AnswerAccepted {
		t.Errorf("first %+v", a.Kind)
	}
	if a := nextOf(t, answers); a.Kind != AnswerLost || !a.Written {
		t.Errorf("second %+v", a.Kind)
	}
	if n := nextOf(t, asked); n != FreeText+1 {
		t.Errorf("asked for %d bytes", n)
	}
	if e := closedBy(t, c); !errors.Is(e, ErrBudget) || !errors.Is(e, full) {
		t.Errorf("closed %v", e)
	}
	if got := testutil.ToFloat64(cfg.Metrics.closes.WithLabelValues("budget")); got != 1 {
		t.Errorf("closes for the budget: %v", got)
	}
}

// A frame that does not come to its end gives its buffer back.
func TestLargeBuffersAreBounded(t *testing.T) {
	const frame = 1 << 20
	cfg := serve(t, func(p *peer) {
		for {
			r, ok := p.recv()
			if !ok {
				return
			}
			p.respond(r, `{"ok":true,"x":"`+strings.Repeat("x", frame)+`"}`)
		}
	})
	c := dial(t, cfg, nil)
	for range 3 * maxBigFrames {
		if _, err := c.Health(t.Context()); !isA[*AnswerError](err) {
			t.Fatal(err)
		}
	}
	bigFrames.Lock()
	free := len(bigFrames.free)
	bigFrames.Unlock()
	if free < 1 || free > maxBigFrames {
		t.Errorf("%d large buffers", free)
	}
}

// A handshake that ends badly with a large frame gives its buffer back: else four
// of them would keep every gateway from sending a large frame.
func TestARefusedHandshakeKeepsNoBuffer(t *testing.T) {
	cfg := serveRaw(t, func(p *peer) {
		p.send(`{"type":"event","event":"` + strings.Repeat("x", 1<<20) + `"`)
		p.drain()
	})
	for range maxBigFrames + 1 {
		if r := refusal(t, cfg); r.Reason != ReasonGarbage {
			t.Fatalf("%v", r)
		}
	}
	if n := len(bigFrames.turn); n != 0 {
		t.Errorf("%d of %d large buffers are lost", n, maxBigFrames)
	}
}

// A connection that was cut does not wait for its turn with a large buffer.
func TestACutConnectionWaitsForNoBuffer(t *testing.T) {
	for range maxBigFrames {
		bigFrames.turn <- struct{}{}
	}
	defer func() {
		for range maxBigFrames {
			<-bigFrames.turn
		}
	}()
	c := newConn(t.Context(), Config{}.withDefaults(), NopHandler{})
	time.AfterFunc(10*time.Millisecond, func() { c.cut(ErrClosed) })
	began := time.Now()
	if _, err := c.borrow(c.ctx); !errors.Is(err, ErrClosed) || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v, want ErrClosed at once", err, time.Since(began))
	}
}

// A flood is read no faster than the pace, and what is not one is not slowed.
func TestPace(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := pace{left: paceBurst, burst: paceBurst, at: now}
	for range 100 {
		p.spend(10_000)
	}
	if d := p.debt(); d != 0 {
		t.Errorf("honest work waits %s", d)
	}
	p.spend(2 * paceBurst)
	if d := p.debt(); d < 3*time.Second || d > 5*time.Second {
		t.Errorf("32 MiB too many cost %s at 8 MiB a second", d)
	}
}

func TestTickIsBelievedUpToAMinute(t *testing.T) {
	t.Parallel()
	for told, want := range map[float64]time.Duration{1000: time.Second, 60_000: time.Minute, 600_000: time.Minute, 1e300: time.Minute, 0: 30 * time.Second} {
		raw, err := json.Marshal(map[string]any{"server": map[string]any{}, "policy": map[string]any{"tickIntervalMs": told}})
		if err != nil {
			t.Fatal(err)
		}
		h, err := decodeHello(raw)
		if err != nil || h.Policy.TickInterval != want {
			t.Errorf("%v ms: %v %v, want %s", told, h, err, want)
		}
	}
}
