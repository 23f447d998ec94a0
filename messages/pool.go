package messages

import "time"

// Pool is a set of gateways that compete for the same work. The zero value of
// a limit means its default.
type Pool struct {
	ID             string
	Tenant         string
	MaxConcurrency int                  // runs at once over all its gateways; 0: no cap
	Limits         map[Class]ClassLimit // admission
	Reserved       map[Class]int        // slots kept free for a class (opt-in)
	AgingSeconds   int                  // a task waits this long per class step upward; 0: strict order
	AwaySeconds    int                  // how long an unreachable gateway keeps its tasks; 0: 60
	Version        int64
	CreatedAt      time.Time
}

// ClassLimit bounds what may wait in one class of one pool.
type ClassLimit struct {
	Count int   // tasks; 0: DefaultClassCount
	Bytes int64 // of their inputs; 0: DefaultClassBytes
}

// Defaults of a pool's limits.
const (
	DefaultClassCount  = 200_000
	DefaultClassBytes  = 256 << 20
	DefaultAwaySeconds = 60
)

// Limit returns the effective admission limit of a class.
func (p *Pool) Limit(c Class) ClassLimit {
	l := p.Limits[c]
	if l.Count == 0 {
		l.Count = DefaultClassCount
	}
	if l.Bytes == 0 {
		l.Bytes = DefaultClassBytes
	}
	return l
}

// Same says whether p and o say the same, whatever their versions: what is not
// given is its default.
func (p *Pool) Same(o *Pool) bool {
	for _, c := range Classes {
		if p.Limit(c) != o.Limit(c) || p.Reserved[c] != o.Reserved[c] {
			return false
		}
	}
	return p.ID == o.ID && p.Tenant == o.Tenant && p.MaxConcurrency == o.MaxConcurrency && p.AgingSeconds == o.AgingSeconds && p.Away() == o.Away()
}

// Away returns how long an unreachable gateway keeps its tasks.
func (p *Pool) Away() time.Duration {
	if p.AwaySeconds <= 0 {
		return DefaultAwaySeconds * time.Second
	}
	return time.Duration(p.AwaySeconds) * time.Second
}
