package openclawtest

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// EchoBytes is how much of the last user text a reply repeats, from its end. A
// turn that is interrupted again and again grows by 150 bytes each time, and the
// judge looks for the task's own message in front of them.
const EchoBytes = 4096

// plan is what the fake model does with one call.
type plan struct {
	delay  time.Duration // until the first byte
	reply  string
	chunks int
	gap    time.Duration // between chunks
	fail   string
	began  time.Time // of the streaming
	shape  int       // bytes per chunk
	round  int       // retries made
	cached int       // input tokens out of the provider's cache
	spawn  string    // task of a sub-agent that the model starts
}

// newPlan reads the directives of the prompt; of two with one name the last counts.
func (g *Gateway) newPlan(prompt string, users int) *plan {
	p := &plan{delay: g.runTime(), chunks: 1}
	text, given := directives(prompt)
	if g.cfg.Chunks > 1 && p.delay > 0 {
		p.chunks, p.gap = g.cfg.Chunks, p.delay/time.Duration(g.cfg.Chunks)
		p.delay = p.gap
	}
	if ms, ok := millis(given["delay"]); ok {
		p.delay, p.chunks, p.gap = ms, 1, 0
	}
	if n, err := strconv.Atoi(given["chunks"]); err == nil && n > 0 {
		p.chunks = n
	}
	if ms, ok := millis(given["chunkms"]); ok {
		p.gap = ms
		if p.chunks == 1 {
			p.chunks = 4
		}
	}
	p.fail = given["fail"]
	if n, err := strconv.Atoi(given["cached"]); err == nil && n > 0 {
		p.cached = n
	}
	p.spawn = given["spawn"]
	var fixed bool
	p.reply, fixed = given["reply"]
	switch {
	case fixed && p.reply == "NO_REPLY":
		p.fail = "empty"
	case !fixed:
		p.reply = fmt.Sprintf("ECHO(%d): %s", users, tail(text, EchoBytes))
	}
	return p
}

func millis(s string) (time.Duration, bool) {
	ms, err := strconv.ParseFloat(s, 64)
	if err != nil || !(ms >= 0 && ms <= 86_400_000) {
		return 0, false
	}
	return time.Duration(ms * float64(time.Millisecond)), true
}

// directives takes every [[...]] mark out of text and returns those the model obeys.
func directives(text string) (rest string, given map[string]string) {
	if !strings.Contains(text, "[[") {
		return strings.TrimSpace(text), nil
	}
	given = map[string]string{}
	var b strings.Builder
	for {
		head, tail, ok := strings.Cut(text, "[[")
		b.WriteString(head)
		if !ok {
			break
		}
		mark, after, ok := strings.Cut(tail, "]]")
		if !ok {
			b.WriteString("[[" + tail)
			break
		}
		if name, value, ok := strings.Cut(mark, "="); ok {
			switch name {
			case "delay", "fail", "reply", "chunks", "chunkms", "cached", "spawn":
				given[name] = value
			}
		}
		text = after
	}
	return strings.TrimSpace(b.String()), given
}

// tail is the end of s in at most n bytes, cut at a rune.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	i := len(s) - n
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return s[i:]
}

// answer is the moment of the model's first byte.
func (g *Gateway) answer(l *life, r *run) {
	switch r.plan.fail {
	case "":
		g.stream(l, r)
	case "hang":
		g.waitForDeadline(l, r)
	case "crash":
		if !g.stopped {
			g.die(0)
		}
	case "401":
		g.switchOff(l, r, offAuth)
	case "402", "quota":
		g.switchOff(l, r, offBilling)
	case "cut":
		r.plan.reply = "partial "
		g.show(l, r, len(r.plan.reply), false)
		g.retry(l, r)
	default:
		g.retry(l, r)
	}
}

func (g *Gateway) switchOff(l *life, r *run, d time.Duration) {
	provider, _ := r.provider()
	g.store.switchOff(provider, time.Now().Add(g.scaled(d)))
	g.finish(l, r, r.failed(r.plan.fail))
}

// retry hides a provider failure behind growing pauses, then gives up.
func (g *Gateway) retry(l *life, r *run) {
	list := pauses(r.plan.fail)
	if r.plan.round >= len(list) {
		g.finish(l, r, r.failed(r.plan.fail))
		return
	}
	pause := g.scaled(list[r.plan.round] * time.Second)
	r.plan.round++
	g.emitRetry(l, r)
	if r.shown > 0 {
		g.show(l, r, 0, true)
	}
	g.arm(l, r, pause, func() { g.retry(l, r) })
}

// stream shows the reply piece by piece, merged to one delta per 150 ms (scaled).
func (g *Gateway) stream(l *life, r *run) {
	p := r.plan
	if r.failRun {
		g.finish(l, r, r.failed("500"))
		return
	}
	if p.gap <= 0 || p.chunks <= 1 || p.reply == "" {
		g.finish(l, r, outcome{kind: kindOK, text: p.reply})
		return
	}
	if p.began.IsZero() {
		p.began = time.Now()
		p.chunks = min(p.chunks, len(p.reply))
		p.shape = (len(p.reply) + p.chunks - 1) / p.chunks
	}
	elapsed, total := time.Since(p.began), time.Duration(p.chunks)*p.gap
	if elapsed >= total {
		g.finish(l, r, outcome{kind: kindOK, text: p.reply})
		return
	}
	upTo := min((int(elapsed/p.gap)+1)*p.shape, len(p.reply))
	for upTo < len(p.reply) && !utf8.RuneStart(p.reply[upTo]) {
		upTo++
	}
	if upTo > r.shown {
		g.show(l, r, upTo, false)
	}
	next := max(p.gap, g.scaled(150*time.Millisecond))
	g.arm(l, r, min(next, total-elapsed), func() { g.stream(l, r) })
}

// show sends the reply up to a byte as a delta, or takes it back.
func (g *Gateway) show(l *life, r *run, upTo int, replace bool) {
	from := r.shown
	r.shown = upTo
	g.emitDelta(l, r, from, replace)
}
