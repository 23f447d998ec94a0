package hostile

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Mode is one way of being hostile. What is nil is done as an honest gateway
// does it.
type Mode struct {
	Name string
	// AtConnect: it begins with the handshake.
	AtConnect bool
	// Handshake takes the place of the whole handshake, Hello of the last answer.
	Handshake func(p *peer, changed <-chan struct{})
	Hello     func(boot int) string
	// Answer answers a call; empty: honestly. Run carries out a run that was taken.
	Answer func(p *peer, r request) string
	Run    func(p *peer, r run)
	// Push sends unasked until changed is closed.
	Push func(p *peer, changed <-chan struct{})
}

// Honest is no mode of an attack.
var Honest = Mode{Name: "honest"}

// once keeps a large frame's body for all modes that use it.
func once(make func() string) func() string { return sync.OnceValue(make) }

var (
	objects = once(func() string { return many("{}", frameSize-512) })
	lists   = once(func() string { return many("[]", frameSize-512) })
	words   = once(func() string { return many(`""`, frameSize-512) })
	rows    = once(func() string {
		return many(`{"key":"agent:main:dash:x","role":"user","content":[{},{},{}],"status":"done","lane":"main"}`, frameSize-512)
	})
	long = once(func() string { return strings.Repeat("x", frameSize-1024) })
	pad  = once(func() string { return strings.Repeat("y", 4<<20) })

	nested = once(func() string { return deep(4 << 20) })
)

// Modes are all attacks, in the order in which a run goes through them.
func Modes() []Mode {
	return []Mode{
		manyMode("many-objects", objects), manyMode("many-lists", lists), manyMode("many-words", words), manyMode("many-rows", rows),
		{Name: "many-at-hello", AtConnect: true, Hello: func(boot int) string {
			return helloWith(boot, many(`"m"`, 2<<20), many(`"e"`, 1<<20))
		}},
		{Name: "many-in-results", Run: func(p *peer, r run) {
			p.make(func() string {
				return result(r.id, `{"runId":"`+r.run+`","status":"ok","result":{"payloads":`+objects()+`}}`)
			})
		}},
		{Name: "many-in-errors", Answer: func(_ *peer, r request) string {
			return failure(r.ID, `{"code":"UNAVAILABLE","details":{"x":`+objects()+`}}`)
		}, Run: func(p *peer, r run) {
			p.make(func() string {
				return failure(r.id, `{"code":"UNAVAILABLE","message":"no","details":{"x":`+objects()+`}}`)
			})
		}},
		{Name: "many-in-events", Push: pushAll(
			func(*peer) string { return event("task", `{"task":`+objects()+`}`) },
			func(*peer) string {
				return event("agent", `{"runId":"r","stream":"lifecycle","data":{"phase":"finishing","x":`+lists()+`}}`)
			},
			func(*peer) string {
				return event("chat", `{"runId":"r","state":"final","message":{"content":`+objects()+`}}`)
			},
		)},
		{Name: "deep", Answer: func(_ *peer, r request) string { return result(r.ID, `{"sessions":`+deep(1<<20)+`}`) },
			Run: func(p *peer, r run) {
				p.make(func() string { return result(r.id, `{"runId":"`+r.run+`","x":`+nested()+`}`) })
			}},
		{Name: "long-words", Answer: func(p *peer, r request) string {
			return result(r.ID, `{"status":"`+long()+`","runId":`+quoteRun(r)+`}`)
		}, Run: func(p *peer, r run) {
			p.make(func() string { return failure(r.id, `{"code":"X","message":"`+p.f.Mark+long()+`"}`) })
		}},
		{Name: "long-rows", Answer: func(p *peer, r request) string {
			row := `{"key":"` + strings.Repeat("k", 120<<10) + `","role":"assistant","content":"` + strings.Repeat("z", 120<<10) + `"}`
			list := many(row, frameSize-1024)
			return result(r.ID, `{"sessions":`+list+`,"messages":`+list+`,"tasks":`+list+`}`)
		}},
		{Name: "flood", Push: pushAll(
			func(*peer) string { return event("tick", `{}`) },
			func(p *peer) string { return runningText("nobody.1", "t") },
			func(*peer) string {
				return event("task", `{"task":{"runtime":"subagent","ownerKey":"agent:main:dash:default:x:0","childSessionKey":"`+strings.Repeat("c", 400)+`","status":"running"}}`)
			},
		)},
		{Name: "running-texts", Run: func(*peer, run) {}, Push: func(p *peer, changed <-chan struct{}) {
			for _, r := range p.open() {
				if p.stop(changed) || !p.send(runningText(r.run, p.f.Mark+pad())) {
					return
				}
			}
			p.pause(100*time.Millisecond, changed)
		}},
		{Name: "large-results", Run: func(p *peer, r run) { p.make(func() string { return final(r, p.f.Mark+pad()) }) }},
		{Name: "large-results-at-once", Run: func(*peer, run) {}, Push: func(p *peer, changed <-chan struct{}) {
			if !p.pause(2*time.Second, changed) {
				return
			}
			p.mu.Lock()
			waiting := p.runs
			p.runs = nil
			p.mu.Unlock()
			for _, r := range waiting {
				p.make(func() string { return final(r, p.f.Mark+pad()) })
			}
		}},
		{Name: "wrong-ids", Run: func(p *peer, r run) {
			for _, id := range []string{"1", "0", "-1", "99999999", "x", r.id + "0"} {
				p.send(result(id, `{"runId":"`+r.run+`","status":"ok","result":{"payloads":[{"text":"`+p.f.Mark+`"}]}}`))
			}
			p.send(final(run{id: r.id, run: "someone.1"}, p.f.Mark))
		}, Push: func(p *peer, changed <-chan struct{}) {
			p.f.mu.Lock()
			ids := p.f.foreign
			p.f.mu.Unlock()
			for _, id := range ids {
				p.send(runningText(id, p.f.Mark))
				p.send(event("agent", `{"runId":"`+id+`","stream":"lifecycle","data":{"phase":"end"}}`))
				p.send(event("chat", `{"runId":"`+id+`","state":"final","message":{"content":"`+p.f.Mark+`"}}`))
			}
			p.pause(20*time.Millisecond, changed)
		}},
		{Name: "twice", Run: func(p *peer, r run) {
			for i := range 20 {
				p.send(result(r.id, fmt.Sprintf(`{"runId":%q,"status":"accepted"}`, r.run)))
				p.send(final(r, fmt.Sprintf("%s answer %d", p.f.Mark, i)))
			}
		}},
		{Name: "late", Run: func(p *peer, r run) {
			time.Sleep(3 * time.Second)
			p.send(final(r, p.f.Mark+" late"))
		}, Answer: func(p *peer, r request) string {
			go func() {
				time.Sleep(4 * time.Second)
				p.send(honest(p, r))
			}()
			return silent
		}},
		{Name: "after-abort", Run: func(*peer, run) {}, Answer: func(p *peer, r request) string {
			if r.Method != "sessions.abort" {
				return ""
			}
			p.send(result(r.ID, `{"status":"aborted","abortedRunId":"x"}`))
			for _, one := range p.open() {
				p.send(final(one, p.f.Mark+" after the abort"))
			}
			return silent
		}},
		{Name: "slow-frames", AtConnect: true, Push: func(p *peer, changed <-chan struct{}) { p.drip(changed) }},
		{Name: "no-challenge", AtConnect: true, Handshake: func(p *peer, changed <-chan struct{}) { p.pause(time.Minute, changed) }},
		{Name: "endless-handshake", AtConnect: true, Handshake: func(p *peer, changed <-chan struct{}) {
			for !p.stop(changed) && p.send(event("tick", `{"x":`+many("{}", 3<<20)+`}`)) {
			}
		}},
		{Name: "dripping-handshake", AtConnect: true, Handshake: func(p *peer, changed <-chan struct{}) { p.drip(changed) }},
	}
}

// manyMode answers every call with a list of many elements wherever a list could be.
func manyMode(name string, list func() string) Mode {
	answer := func(_ *peer, r request) string {
		return result(r.ID, `{"`+memberOf(r.Method)+`":`+list()+`}`)
	}
	return Mode{Name: name, AtConnect: true, Answer: answer, Run: func(p *peer, r run) {
		p.send(result(r.id, `{"runId":"`+r.run+`","status":"ok","result":{"payloads":`+list()+`}}`))
	}}
}

func memberOf(method string) string {
	switch method {
	case "sessions.list":
		return "sessions"
	case "chat.history":
		return "messages"
	case "tasks.list":
		return "tasks"
	case "diagnostics.lanes":
		return "lanes"
	}
	return "x"
}

// pushAll sends one frame after the other, as fast as they are taken.
func pushAll(frames ...func(*peer) string) func(*peer, <-chan struct{}) {
	return func(p *peer, changed <-chan struct{}) {
		for i := 0; !p.stop(changed); i++ {
			if !p.send(frames[i%len(frames)](p)) {
				return
			}
		}
	}
}

// drip begins a large frame and sends a little of it now and then.
func (p *peer) drip(changed <-chan struct{}) {
	p.write.Lock()
	defer p.write.Unlock()
	w, err := p.ws.Writer(p.ctx, websocket.MessageText)
	if err != nil {
		return
	}
	chunk := []byte(`{"type":"event","x":"` + strings.Repeat("d", 300<<10))
	for !p.stop(changed) {
		if _, err := w.Write(chunk); err != nil {
			p.cancel()
			return
		}
		chunk = []byte("d")
		if !p.pause(50*time.Millisecond, changed) {
			p.cancel()
			return
		}
	}
}
