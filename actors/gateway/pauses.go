package gateway

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

// maxPauses bounds the providers that are remembered as switched off; the one
// that comes back first is forgotten beyond it, which costs its next task a try.
const maxPauses = 64

// pauses are the providers that the gateway has switched off after they refused
// its key or its account. A gateway keeps that over its own restarts, so they
// are kept over those too, until their time is over or something shows or says
// that the cause is mended. It is pure: the time comes in.
type pauses struct {
	off      map[string]pause // by provider; "": that of tasks which name no model
	standard string           // the provider of such tasks, once a failure has told
}

type pause struct {
	messages.Pause
	noted time.Time // last
}

// note takes a failure of a task that named a model, or none.
func (p *pauses) note(t session.Trouble, model string, now time.Time) {
	named := messages.ProviderOf(model)
	if named == "" && t.Provider != "" {
		p.standard = t.Provider
	}
	keys := map[string]bool{named: true}
	if t.Provider != "" {
		keys[t.Provider] = true
	}
	if p.standard != "" && keys[p.standard] {
		keys[""] = true
	}
	if p.off == nil {
		p.off = map[string]pause{}
	}
	until := now.Add(t.Pause)
	for k := range keys {
		v := p.off[k]
		if until.After(v.Until) {
			v.Pause = messages.Pause{Provider: k, Until: until, Why: t.Why}
		}
		v.noted = now
		p.off[k] = v
	}
	p.expire(now)
	for len(p.off) > maxPauses {
		first := slices.MinFunc(slices.Collect(maps.Values(p.off)), func(a, b pause) int { return a.Until.Compare(b.Until) })
		delete(p.off, first.Provider)
	}
}

// expire forgets what is over and reports whether anything was.
func (p *pauses) expire(now time.Time) bool {
	n := len(p.off)
	maps.DeleteFunc(p.off, func(_ string, v pause) bool { return !now.Before(v.Until) })
	return len(p.off) < n
}

// served: the provider answered a run that was claimed at that time. One that was
// claimed before its refusal proves nothing. It reports whether a pause ended.
func (p *pauses) served(provider string, claimed time.Time) bool {
	n := len(p.off)
	maps.DeleteFunc(p.off, func(k string, v pause) bool {
		return (k == provider || k == "" && p.standard == provider) && v.noted.Before(claimed)
	})
	return len(p.off) < n
}

// lift forgets all: somebody says that the cause is mended. If it is not, the
// next task learns of it without using an attempt.
func (p *pauses) lift() bool {
	n := len(p.off)
	p.off, p.standard = nil, ""
	return n > 0
}

// list is what is switched off, by provider.
func (p *pauses) list() []messages.Pause {
	out := make([]messages.Pause, 0, len(p.off))
	for _, v := range p.off {
		out = append(out, v.Pause)
	}
	slices.SortFunc(out, func(a, b messages.Pause) int { return strings.Compare(a.Provider, b.Provider) })
	return out
}

// reason says so in words, empty if nothing is switched off.
func (p *pauses) reason() string {
	var words []string
	for _, v := range p.list() {
		if v.Provider != "" || p.standard == "" {
			words = append(words, v.Words())
		}
	}
	return strings.Join(words, "; ")
}
