package server

import (
	"context"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/http/events"
)

// lobby holds WebSockets that have not said who they are. Whoever is there for
// longest goes when there is no room, of the same address first: one that means
// to say something says it at once.
type lobby struct {
	max, each int
	crowded   prometheus.Counter

	mu     sync.Mutex
	guests []*guest // the oldest first
	by     map[string]int
}

// guest is one of them.
type guest struct {
	address string
	goAway  context.CancelCauseFunc
}

func newLobby(n int) *lobby {
	return &lobby{
		max: n, each: max(1, n/8), by: map[string]int{},
		crowded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_http_guests_dropped_total", Help: "WebSockets that were closed to make room before they said who they are.",
		}),
	}
}

// enter lets a WebSocket in; leave may be called more than once. The context
// ends when it has to make room.
func (l *lobby) enter(ctx context.Context, address string) (guarded context.Context, leave func()) {
	guarded, goAway := context.WithCancelCause(ctx)
	g := &guest{address, goAway}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.by[address] >= l.each:
		l.makeRoom(func(o *guest) bool { return o.address == address })
	case len(l.guests) >= l.max:
		l.makeRoom(func(*guest) bool { return true })
	}
	l.guests = append(l.guests, g)
	l.by[address]++
	return guarded, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.remove(slices.Index(l.guests, g))
	}
}

// makeRoom sends the oldest of some guests away. l.mu is held.
func (l *lobby) makeRoom(some func(*guest) bool) {
	if i := slices.IndexFunc(l.guests, some); i >= 0 {
		l.guests[i].goAway(events.ErrCrowded)
		l.crowded.Inc()
		l.remove(i)
	}
}

// remove forgets a guest, -1: none. l.mu is held.
func (l *lobby) remove(i int) {
	if i < 0 {
		return
	}
	g := l.guests[i]
	l.guests = slices.Delete(l.guests, i, i+1)
	if l.by[g.address]--; l.by[g.address] == 0 {
		delete(l.by, g.address)
	}
}

func (l *lobby) taken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.guests)
}
