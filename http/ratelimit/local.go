package ratelimit

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Decision is what becomes of one request.
type Decision struct {
	OK        bool
	Remaining int           // requests that may follow at once
	Retry     time.Duration // when refused: after it one request passes
	Full      time.Duration // until Remaining is the whole limit again
}

// Limiter counts one request of a key that may make perMinute, at least 1, and
// judges it. It never fails.
type Limiter interface {
	Take(ctx context.Context, key string, perMinute int) Decision
}

// pace is a limit in microseconds, the unit of Redis' clock. Limits above
// 60,000 a minute come back up to 2 % faster than asked, for want of fractions.
type pace struct {
	every int64 // the time that pays for one request
	room  int64 // how far ahead a key may have spent: a minute's worth
}

func paceOf(perMinute int) pace {
	every := max(1, time.Minute.Microseconds()/int64(perMinute))
	return pace{every: every, room: every * int64(perMinute)}
}

// take is the rule: until is the time to which the key has spent. It is what
// take.lua does.
func (p pace) take(now, until int64) (ok bool, spent int64) {
	until = min(max(now, until), now+p.room) // no clock that was set back keeps anybody waiting
	if until+p.every > now+p.room {
		return false, until
	}
	return true, until + p.every
}

// decision puts into words that the key has spent ahead microseconds beforehand.
func (p pace) decision(ok bool, ahead int64) Decision {
	d := Decision{OK: ok, Full: time.Duration(ahead) * time.Microsecond}
	if ok {
		d.Remaining = int((p.room - ahead) / p.every)
	} else {
		d.Retry = time.Duration(ahead+p.every-p.room) * time.Microsecond
	}
	return d
}

// DefaultKeys is how many keys a Local counts at most.
const DefaultKeys = 10_000

// looks is how many keys are looked at to find one that makes room.
const looks = 16

// Local counts in this process. A key beyond the bound makes room for itself:
// one that has nothing spent goes unnoticed, otherwise the one with the least
// spent among a few begins anew, and is counted in a metric.
type Local struct {
	start     time.Time // times are microseconds since then, which nobody sets back
	most      int
	forgotten prometheus.Counter

	mu   sync.Mutex
	keys map[string]*int64 // to which time each has spent
}

// NewLocal returns a Local that counts up to most keys at once, 0:
// DefaultKeys. r may be nil.
func NewLocal(most int, r prometheus.Registerer) (*Local, error) {
	if most <= 0 {
		most = DefaultKeys
	}
	l := &Local{
		start: time.Now(), most: most, keys: map[string]*int64{},
		forgotten: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_ratelimit_forgotten_total", Help: "Keys whose requests of the last minute were forgotten because too many keys were counted.",
		}),
	}
	return l, register(r, l.forgotten, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dash_ratelimit_keys", Help: "Keys with a limit that this node counts.",
	}, func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return float64(len(l.keys))
	}))
}

// Take implements Limiter.
func (l *Local) Take(_ context.Context, key string, perMinute int) Decision {
	p, now := paceOf(perMinute), l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	until := l.account(key, now)
	var ok bool
	ok, *until = p.take(now, *until)
	return p.decision(ok, *until-now)
}

func (l *Local) now() int64 { return time.Since(l.start).Microseconds() }

// ahead is how far a key has spent beyond now.
func (l *Local) ahead(key string, now int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := l.keys[key]; until != nil {
		return max(0, *until-now)
	}
	return 0
}

// learn takes over to which time a key has spent, as somebody else counts.
func (l *Local) learn(key string, until int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.account(key, l.now())
	*own = max(*own, until)
}

// account finds or makes a key's. l.mu is held.
func (l *Local) account(key string, now int64) *int64 {
	until := l.keys[key]
	if until == nil {
		if len(l.keys) >= l.most {
			l.makeRoom(now)
		}
		until = new(int64)
		l.keys[key] = until
	}
	return until
}

// makeRoom removes at least one key. l.mu is held.
func (l *Local) makeRoom(now int64) {
	n, removed := 0, false
	var least string
	for key, until := range l.keys { // in random order
		if *until <= now {
			delete(l.keys, key)
			removed = true
		} else if least == "" || *until < *l.keys[least] {
			least = key
		}
		if n++; n == looks {
			break
		}
	}
	if !removed {
		delete(l.keys, least)
		l.forgotten.Inc()
	}
}
