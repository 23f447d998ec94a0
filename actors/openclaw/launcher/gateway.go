package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Operations on one gateway; a higher one interrupts a lower one.
const (
	opEnsure = iota
	opStop
	opKill
	opCount
)

// ErrInterrupted ends an operation when a Stop or Kill of the same gateway came.
var ErrInterrupted = errors.New("interrupted by a stop or kill of the same gateway")

// gateway is the launcher's state of one managed gateway. Whoever holds op may
// change it; mu guards the fields, because Exited and the watcher of the
// process look at them meanwhile.
type gateway struct {
	id string
	op chan struct{}

	mu        sync.Mutex
	rank      int // of the operation under way, when interrupt is set
	interrupt context.CancelCauseFunc
	waiting   [opCount]int
	lock      *os.File
	dir       folder
	rec       record
	token     messages.Secret
	proc      *process
	wrapper   *process // what we started, when the daemon is a child of it
	adopted   bool
	ready     bool
	asked     bool // Stop or Kill was sent
	forgotten bool
	rewritten *rewritten // the configuration file that the living process was given
	replaced  *os.File   // the one that was replaced last, see replaceConfig
	exits     chan Exit
}

func newGateway(id string) *gateway {
	return &gateway{id: id, op: make(chan struct{}, 1)}
}

// begin waits for the gateway's turn and returns the operation's context and
// its end. Operations of a lower rank are interrupted, or refused if they come
// to their turn while a higher one waits.
func (l *Launcher) begin(ctx context.Context, g *gateway, rank int) (context.Context, func(), error) {
	g.mu.Lock()
	if g.interrupt != nil && g.rank < rank {
		g.interrupt(ErrInterrupted)
	}
	g.waiting[rank]++
	g.mu.Unlock()

	var err error
	select {
	case g.op <- struct{}{}:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-l.ctx.Done():
		err = ErrClosed
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting[rank]--
	if err != nil {
		return nil, nil, fmt.Errorf("wait for gateway %s: %w", g.id, err)
	}
	for higher := rank + 1; higher < opCount; higher++ {
		if g.waiting[higher] > 0 {
			<-g.op
			return nil, nil, ErrInterrupted
		}
	}
	switch {
	case l.ctx.Err() != nil:
		<-g.op
		return nil, nil, ErrClosed
	case g.forgotten:
		<-g.op
		return nil, nil, fmt.Errorf("gateway %s was forgotten meanwhile", g.id)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(l.ctx, func() { cancel(ErrClosed) })
	g.rank, g.interrupt = rank, cancel
	return ctx, func() {
		unhook()
		cancel(nil)
		g.mu.Lock()
		g.interrupt = nil
		g.mu.Unlock()
		<-g.op
	}, nil
}

// alive returns the watched process, or nil when there is none or it has
// ended; then its end has been told before alive returns.
func (g *gateway) alive() *process {
	g.mu.Lock()
	p := g.proc
	g.mu.Unlock()
	if p == nil {
		return nil
	}
	if p.ended() {
		<-p.done
		return nil
	}
	return p
}

// open makes the gateway's folder and takes its lock; once taken it is kept.
func (g *gateway) open(dir folder) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lock != nil {
		if g.dir.base == dir.base {
			return nil
		}
		return &StartError{Permanent: true, Reason: fmt.Sprintf("the folder of gateway %s changed from %s to %s while Dash manages it", g.id, g.dir.base, dir.base),
			NextStep: next.RemoveOrRestoreFolder}
	}
	lock, err := dir.open()
	if err != nil {
		return err
	}
	g.lock, g.dir = lock, dir
	return nil
}

// release frees the pidfds, the lock and the replaced file; the process lives on.
func (g *gateway) release() {
	g.keep(nil)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range []*process{g.proc, g.wrapper} {
		if p != nil {
			p.close()
		}
	}
	if g.lock != nil {
		// A process that is just being forked holds a copy of the descriptor:
		// closing ours would not free the lock before it executes.
		unlock(g.lock)
		g.lock = nil
	}
}

// watch makes p the gateway's process and waits for its end in a goroutine.
func (l *Launcher) watch(g *gateway, p *process, adopted bool) {
	g.mu.Lock()
	g.proc, g.adopted, g.ready, g.asked, g.rewritten = p, adopted, false, false, nil
	g.exits = make(chan Exit, 1)
	exits := g.exits
	g.mu.Unlock()
	l.metrics.processes.Inc()
	l.wg.Go(func() {
		defer l.metrics.processes.Dec()
		if !p.wait() {
			return // Close: nobody watches any more
		}
		e := p.outcome()
		g.mu.Lock()
		if g.wrapper == p {
			g.mu.Unlock()
			p.finish(e)
			return
		}
		e.Requested = g.asked
		e.Reason = reasonOf(e, g.ready)
		g.mu.Unlock()
		l.metrics.exits.WithLabelValues(e.kind()).Inc()
		level := slog.LevelInfo
		if !e.Requested {
			level = slog.LevelWarn
		}
		l.log.Log(l.ctx, level, "gateway process ended", "gateway", g.id, "pid", p.pid, "code", e.Code, "signal", e.signalName(), "requested", e.Requested, "reason", e.Reason)
		p.finish(e)
		exits <- e
		close(exits)
	})
}

// Exited returns a channel that yields the end of the gateway's present (or
// last) process once and is then closed. There is one channel per process, so
// it is for one receiver. Without a process ever it is closed already; it stays
// silent when the launcher is closed first. Works for adopted processes too.
func (l *Launcher) Exited(id string) <-chan Exit {
	none := make(chan Exit)
	close(none)
	g, err := l.lookup(id, false)
	if err != nil || g == nil {
		return none
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.exits == nil {
		return none
	}
	return g.exits
}
