package launcher

import "time"

// Phase says what a gateway's process is doing as far as the launcher knows.
type Phase string

// Phases of a managed process.
const (
	PhaseAbsent   Phase = "absent"
	PhaseStarting Phase = "starting" // started or found, not seen ready yet
	PhaseRunning  Phase = "running"  // was ready
	PhaseStopping Phase = "stopping" // was told to end
)

// Status is what the launcher knows about one gateway's process.
type Status struct {
	ID      string
	Phase   Phase
	PID     int
	Port    int
	Adopted bool
	Dir     string // the gateway's folder
	Started time.Time
}

// status reports what is known about the gateway's process without looking at
// it anew. ok is false when the launcher never heard of the gateway.
func (l *Launcher) status(id string) (s Status, ok bool) {
	g, err := l.lookup(id, false)
	if err != nil || g == nil {
		return Status{}, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s = Status{ID: id, Phase: PhaseAbsent, Dir: g.dir.base, Port: g.rec.Port}
	if g.proc == nil || g.proc.ended() {
		return s, true
	}
	s.PID, s.Adopted, s.Started = g.proc.pid, g.adopted, g.rec.StartedAt
	switch {
	case g.asked:
		s.Phase = PhaseStopping
	case g.ready:
		s.Phase = PhaseRunning
	default:
		s.Phase = PhaseStarting
	}
	return s, true
}

// clean reports whether the daemon drained and left by itself.
func (e Exit) clean() bool { return e.known && e.Signal == 0 && e.Code == codeDrained }
