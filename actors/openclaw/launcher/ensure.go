package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// endTimeout bounds the wait for a process after SIGKILL.
const endTimeout = 10 * time.Second

// Ensure returns the gateway's daemon once it is ready: the one that runs, else
// the one an earlier Dash process left running, else a new one. It waits for a
// boot slot; StartupTimeout counts from the start of the process. Errors are
// *StartError, or ctx's cause: then a daemon that was starting goes on starting
// and the next Ensure takes it up.
func (l *Launcher) Ensure(ctx context.Context, spec Spec) (Endpoint, error) {
	return l.up(ctx, spec, true)
}

// Adopt is Ensure that starts nothing: ErrNotRunning when there is no process.
func (l *Launcher) Adopt(ctx context.Context, spec Spec) (Endpoint, error) {
	return l.up(ctx, spec, false)
}

func (l *Launcher) up(ctx context.Context, spec Spec, mayStart bool) (Endpoint, error) {
	g, err := l.lookup(spec.ID, true)
	if err != nil {
		return Endpoint{}, err
	}
	dir, err := l.folderOf(spec.ID, spec.Managed.StateDir)
	if err != nil {
		return Endpoint{}, err
	}
	ctx, end, err := l.begin(ctx, g, opEnsure)
	if err != nil {
		return Endpoint{}, err
	}
	defer end()
	if name := dir.foreign(); name != "" && spec.Managed.StateDir != "" {
		return Endpoint{}, permanent(next.FolderEmpty, "the state folder %s has a %q that no Dash made: a gateway would write over it", dir.base, name)
	}
	if err := g.open(dir); err != nil {
		return Endpoint{}, err
	}
	// A configuration that cannot be used must not keep a living process from
	// being adopted.
	pl, planErr := l.prepare(dir, spec)
	p := g.alive()
	if p == nil {
		if p, err = l.find(g); err != nil {
			return Endpoint{}, err
		}
	}
	if p != nil {
		ep, err := l.adopt(ctx, g, p, spec.Token, pl)
		if !errors.Is(err, errEnded) {
			return ep, err
		}
	}
	switch {
	case !mayStart:
		return Endpoint{}, ErrNotRunning
	case planErr != nil:
		return Endpoint{}, planErr
	}
	return l.start(ctx, g, pl)
}

// find looks for the living process of g's folder and watches it; nil when
// there is none. DESIGN.md has its table of decisions.
func (l *Launcher) find(g *gateway) (*process, error) {
	boot, err := hostBootID()
	if err != nil {
		return nil, retryable(err, next.MountProc, "find the gateway's process")
	}
	rec, ok, err := readRecord(g.dir)
	if err != nil {
		l.log.Warn("launch record cannot be used, set aside", "gateway", g.id, "path", g.dir.record(), "err", err)
		if err := os.Rename(g.dir.record(), g.dir.record()+".bad"); err != nil {
			return nil, retryable(err, next.CheckGatewayFolder, "set the launch record aside")
		}
	}
	if !ok {
		rec = record{Version: recordVersion, Gateway: g.id, Port: readPrevious(g.dir).port}
	}
	var p *process
	if ok && rec.HostBootID == boot {
		p = recorded(&rec)
	}
	if p == nil {
		p = l.owner(g, &rec, rec.Port, readPrevious(g.dir).port)
	}
	rec.HostBootID = boot
	g.mu.Lock()
	g.rec = rec
	g.mu.Unlock()
	if p == nil {
		return nil, nil
	}
	if err := rec.write(g.dir); err != nil {
		p.close()
		return nil, retryable(err, next.CheckFreeSpace, "adopt process %d", p.pid)
	}
	l.log.Info("found the gateway's process", "gateway", g.id, "pid", p.pid, "port", rec.Port)
	l.watch(g, p, true)
	return p, nil
}

// recorded returns the living process that rec tells of. A pid that now
// belongs to another process has another start time.
func recorded(rec *record) *process {
	if rec.PID > 0 {
		p, err := openProcess(rec.PID)
		if err == nil && p.start == rec.StartTicks {
			return p
		}
		if err == nil {
			p.close()
		}
		// A daemon started by a wrapper may have outlived it.
		return hold(ownerOf(envLaunchID, rec.LaunchID, rec.Port), envLaunchID, rec.LaunchID, rec)
	}
	// Dash died between the intent and the record of the pid.
	return hold(rootOf(processesWith(envLaunchID, rec.LaunchID)), envLaunchID, rec.LaunchID, rec)
}

// hold takes hold of pid and enters it in rec; nil if it is not, or no longer,
// the process that was started with key=value.
func hold(pid int, key, value string, rec *record) *process {
	if pid == 0 {
		return nil
	}
	p, err := openProcess(pid)
	if err != nil {
		return nil
	}
	if environ(pid, key) != value || p.ended() {
		p.close()
		return nil
	}
	rec.PID, rec.StartTicks = p.pid, p.start
	return p
}

// owner returns a living process that works on g's state folder and listens on
// one of ports, although the record does not tell of it.
func (l *Launcher) owner(g *gateway, rec *record, ports ...int) *process {
	for _, port := range ports {
		pid := ownerOf(envStateDir, g.dir.state(), port)
		p := hold(pid, envStateDir, g.dir.state(), rec)
		if p == nil {
			continue
		}
		if id := environ(pid, envLaunchID); id != rec.LaunchID || rec.LaunchID == "" {
			rec.LaunchID, rec.TokenPrint, rec.prints = id, "", prints{}
			if id == "" {
				rec.LaunchID = randomHex(16) // names nothing, so it finds nothing
			}
		}
		now := time.Now()
		rec.Port, rec.StartedAt, rec.ReadyAt = port, now, now // it listens: it is not ours to end
		return p
	}
	return nil
}

// adopt waits until the living process p is ready. errEnded: it ended, or was
// ended because it never became ready, and a new one may be started.
func (l *Launcher) adopt(ctx context.Context, g *gateway, p *process, wanted messages.Secret, pl *plan) (Endpoint, error) {
	rec, known := g.rec, g.token
	token, ok := tokenOf(rec, known, wanted, readPrevious(g.dir).token)
	if !ok {
		return Endpoint{}, permanent(next.RestartForToken, "process %d of gateway %s runs with a token that is not known any more", p.pid, g.id)
	}
	owner, why, err := l.awaitReady(ctx, p, rec.Port, rec.LaunchID)
	switch {
	case err == nil:
		return l.arrived(g, p, owner, token, pl)
	case errors.Is(err, errEnded):
		return Endpoint{}, err
	case !errors.Is(err, errLate) && !errors.Is(err, errForeign):
		return Endpoint{}, fmt.Errorf("wait for process %d of gateway %s: %w", p.pid, g.id, err)
	}
	if rec.ReadyAt.IsZero() {
		if err := l.end(g, p); err != nil {
			return Endpoint{}, err
		}
		if errors.Is(err, errForeign) {
			return Endpoint{}, errEnded
		}
		l.metrics.starts.WithLabelValues("late").Inc()
		e := retryable(err, next.LookAtOutputBusy, "process %d was still not ready (%s) and was ended", p.pid, why)
		e.LogTail = pl.shown(g.dir, token)
		return Endpoint{}, e
	}
	e := retryable(err, next.WaitOrRestartGateway,
		"process %d of gateway %s lives but is not ready (%s)", p.pid, g.id, why)
	e.Alive = true
	return Endpoint{}, e
}

// tokenOf returns the token that the recorded process was started with.
func tokenOf(rec record, candidates ...messages.Secret) (messages.Secret, bool) {
	for _, t := range candidates {
		if !t.Empty() && rec.TokenPrint != "" && printOf(t, rec.LaunchID) == rec.TokenPrint {
			return t, true
		}
	}
	if rec.TokenPrint == "" { // not from a record of ours: only the file can tell
		t := candidates[len(candidates)-1]
		return t, !t.Empty()
	}
	return "", false
}

// arrived notes that p's daemon is ready and returns its endpoint.
func (l *Launcher) arrived(g *gateway, p *process, owner int, token messages.Secret, pl *plan) (Endpoint, error) {
	rec := g.rec
	g.mu.Lock()
	first, adopted := !g.ready, g.adopted
	g.mu.Unlock()
	if owner != p.pid {
		q := hold(owner, envLaunchID, rec.LaunchID, &rec)
		if q == nil {
			return Endpoint{}, retryable(errEnded, "", "the daemon that process %d had started ended", p.pid)
		}
		l.log.Warn("the command starts the gateway as a child process; that one is managed", "gateway", g.id, "started_pid", p.pid, "pid", q.pid)
		g.mu.Lock()
		g.wrapper = p
		g.mu.Unlock()
		l.watch(g, q, adopted)
		p = q
	}
	if rec.ReadyAt.IsZero() {
		rec.ReadyAt = time.Now()
	}
	if rec.TokenPrint == "" {
		rec.TokenPrint = printOf(token, rec.LaunchID)
	}
	g.mu.Lock()
	g.rec, g.token, g.ready = rec, token, true
	g.mu.Unlock()
	if first {
		if err := rec.write(g.dir); err != nil {
			l.log.Warn("launch record was not brought up to date", "gateway", g.id, "err", err)
		}
		if adopted {
			l.metrics.adoptions.Inc()
		}
	}
	stale := pl == nil || rec.stale(pl.prints) || (!pl.token.Empty() && !token.Equal(pl.token.Reveal()))
	return Endpoint{URL: "ws://127.0.0.1:" + strconv.Itoa(rec.Port) + "/", Token: token, PID: p.pid, Adopted: adopted, Stale: stale}, nil
}

// end kills a process that never became ready and waits for its end.
func (l *Launcher) end(g *gateway, p *process) error {
	g.mu.Lock()
	g.asked = true
	g.mu.Unlock()
	if err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, errGone) {
		return retryable(err, "", "end process %d", p.pid)
	}
	l.killLaunch(g.rec.LaunchID)
	limit := time.NewTimer(endTimeout)
	defer limit.Stop()
	select {
	case <-p.done:
		return nil
	case <-limit.C:
		return retryable(nil, next.HangsInKernel, "process %d did not end %s after SIGKILL", p.pid, endTimeout)
	case <-l.ctx.Done():
		return ErrClosed
	}
}

// killLaunch ends every process that was started with the launch id: the
// daemon behind a wrapper, and programs that an agent started.
func (l *Launcher) killLaunch(launchID string) {
	for _, pid := range processesWith(envLaunchID, launchID) {
		var none record
		p := hold(pid, envLaunchID, launchID, &none)
		if p == nil {
			continue
		}
		if err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, errGone) {
			l.log.Warn("process of a gateway was not ended", "pid", pid, "err", err)
		}
		p.close()
	}
}
