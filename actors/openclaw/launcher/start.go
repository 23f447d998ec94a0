package launcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// portTries bounds how often a start is repeated because somebody else took
// the port between its choice and the daemon's bind.
const portTries = 3

func (l *Launcher) start(ctx context.Context, g *gateway, pl *plan) (Endpoint, error) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return Endpoint{}, fmt.Errorf("wait for a boot slot for gateway %s: %w", g.id, context.Cause(ctx))
	}
	defer func() { <-l.slots }()
	for try := 1; ; try++ {
		ep, err := l.startOnce(ctx, g, pl)
		if err == nil || try == portTries || pl.port != 0 || !errors.Is(err, errForeign) {
			return ep, err
		}
		l.log.Info("port of a starting gateway was taken, choosing another", "gateway", g.id, "try", try)
	}
}

func (l *Launcher) startOnce(ctx context.Context, g *gateway, pl *plan) (Endpoint, error) {
	prev := readPrevious(g.dir)
	token := pl.token
	if token.Empty() {
		token = prev.token
	}
	if token.Empty() {
		token = messages.Secret(randomHex(32))
	}
	old, _ := readFile(g.dir.config(), 2*settingsLimit) //nolint:errcheck // nil is fine: nothing to put back then
	p, err := l.launch(g, pl, token)
	if err != nil {
		l.metrics.starts.WithLabelValues("failed").Inc()
		return Endpoint{}, err
	}
	began := time.Now()
	owner, why, err := l.awaitReady(ctx, p, g.rec.Port, g.rec.LaunchID)
	switch {
	case err == nil:
		l.metrics.starts.WithLabelValues("ready").Inc()
		l.metrics.boot.Observe(time.Since(began).Seconds())
		l.log.Info("gateway process is ready", "gateway", g.id, "pid", owner, "port", g.rec.Port, "boot_seconds", time.Since(began).Seconds())
		return l.arrived(g, p, owner, token, pl)
	case errors.Is(err, errEnded):
		return l.failedStart(ctx, g, p.exit, prev, token, old, pl)
	case errors.Is(err, errLate):
		l.metrics.starts.WithLabelValues("late").Inc()
		if err := l.end(g, p); err != nil {
			return Endpoint{}, err
		}
		e := retryable(errLate, next.LookAtOutputBusy,
			"gateway %s was not ready within %s (%s) and was ended", g.id, l.cfg.StartupTimeout, why)
		e.LogTail = pl.shown(g.dir, token)
		return Endpoint{}, e
	case errors.Is(err, errForeign):
		l.metrics.starts.WithLabelValues("port").Inc()
		if err := l.end(g, p); err != nil {
			return Endpoint{}, err
		}
		return Endpoint{}, l.portTaken(g)
	}
	l.metrics.starts.WithLabelValues("interrupted").Inc()
	return Endpoint{}, fmt.Errorf("start gateway %s: %w", g.id, err)
}

func (l *Launcher) portTaken(g *gateway) error {
	return retryable(errForeign, next.FreePort, "port %d was taken while gateway %s started", g.rec.Port, g.id)
}

// launch writes configuration and intent, starts the process, and writes the
// record. When it returns a process, that process is watched.
func (l *Launcher) launch(g *gateway, pl *plan, token messages.Secret) (*process, error) {
	const disk = next.CheckDataRightsSpace
	port, err := l.choosePort(g.id, pl.port, g.rec.Port)
	if err != nil {
		return nil, err
	}
	content, err := pl.file(port, token)
	if err != nil {
		return nil, err
	}
	if err := writeFile(g.dir.config(), content); err != nil {
		return nil, retryable(err, disk, "write the gateway's configuration")
	}
	boot, err := hostBootID()
	if err != nil {
		return nil, retryable(err, next.MountProc, "start gateway %s", g.id)
	}
	id := randomHex(16)
	rec := record{Version: recordVersion, Gateway: g.id, LaunchID: id, HostBootID: boot, Port: port,
		TokenPrint: printOf(token, id), prints: pl.prints, Command: pl.argv, StartedAt: time.Now()}
	if err := rec.write(g.dir); err != nil {
		return nil, retryable(err, disk, "start gateway %s", g.id)
	}
	out, err := openOutput(g.dir, l.cfg.LogLimit)
	if err != nil {
		return nil, retryable(err, disk, "start gateway %s", g.id)
	}
	p, err := spawn(pl.argv, append(pl.env[:len(pl.env):len(pl.env)], envLaunchID+"="+id), g.dir.base, out)
	out.Close() //nolint:errcheck // the child has its own descriptor; nothing was written through this one
	if err != nil {
		return nil, spawnError(err, pl.argv[0])
	}
	l.afterSpawn()
	rec.PID, rec.StartTicks = p.pid, p.start
	g.mu.Lock()
	g.rec, g.token = rec, token
	g.mu.Unlock()
	l.watch(g, p, false)
	if err := rec.write(g.dir); err != nil {
		return nil, errors.Join(retryable(err, disk, "record process %d", p.pid), l.end(g, p))
	}
	l.log.Info("gateway process started", "gateway", g.id, "pid", p.pid, "port", port, "program", pl.argv[0])
	return p, nil
}

func spawnError(err error, program string) error {
	for _, fatal := range []syscall.Errno{syscall.ENOENT, syscall.EACCES, syscall.ENOEXEC, syscall.E2BIG, syscall.EPERM} {
		if errors.Is(err, fatal) {
			e := permanent(next.InstallOrCorrectCommand, "the program %s cannot be started", program)
			e.Err = err
			return e
		}
	}
	return retryable(err, next.CheckHostLimits, "start %s", program)
}

// failedStart judges a process that ended before it was ready.
func (l *Launcher) failedStart(ctx context.Context, g *gateway, e Exit, prev previous, token messages.Secret, old []byte, pl *plan) (Endpoint, error) {
	se := &StartError{ExitCode: e.Code, Reason: fmt.Sprintf("gateway %s %s", g.id, e.Reason),
		NextStep: next.LookAtOutputLater, LogTail: pl.shown(g.dir, token)}
	if e.known && e.Code == codeFailed && !canListen(g.rec.Port) {
		l.metrics.starts.WithLabelValues("port").Inc()
		return Endpoint{}, l.portTaken(g)
	}
	if !e.ConfigError() || slices.ContainsFunc(se.LogTail, starved) {
		l.metrics.starts.WithLabelValues("ended").Inc()
		return Endpoint{}, se
	}
	l.metrics.starts.WithLabelValues("config").Inc()
	// 78 is also the answer when another process lives on the state folder.
	rec := g.rec
	if p := l.livingOwner(ctx, g, &rec, prev.port); p != nil {
		if len(old) > 0 { // the file that process was started with
			if err := writeFile(g.dir.config(), old); err != nil {
				p.close()
				return Endpoint{}, retryable(err, next.CheckFreeSpace, "put the configuration of process %d back", p.pid)
			}
		}
		g.mu.Lock()
		g.rec, g.token = rec, prev.token
		g.mu.Unlock()
		if err := rec.write(g.dir); err != nil {
			p.close()
			return Endpoint{}, retryable(err, next.CheckFreeSpace, "adopt process %d", p.pid)
		}
		l.log.Info("the state folder has a living owner, adopting it", "gateway", g.id, "pid", p.pid, "port", rec.Port)
		l.watch(g, p, true)
		ep, err := l.adopt(ctx, g, p, prev.token, pl)
		if errors.Is(err, errEnded) { // the owner left meanwhile: the next start finds the folder free
			return Endpoint{}, se
		}
		return ep, err
	}
	se.Permanent, se.NextStep = true, next.CorrectConfigAsSaid
	return Endpoint{}, se
}

// starved reports whether a daemon gave up its start for want of CPU. It then
// says 1 or, when that hit a step of its migrations, 78: both pass.
func starved(line string) bool {
	return strings.Contains(line, "lease heartbeat did not become ready")
}

// livingOwner finds a process that works on g's state folder and is ready on
// some port, the expected one first.
func (l *Launcher) livingOwner(ctx context.Context, g *gateway, rec *record, expected int) *process {
	ports := []int{expected}
	for _, pid := range processesWith(envStateDir, g.dir.state()) {
		ports = append(ports, portsOf(pid)...)
	}
	for _, port := range ports {
		if port == 0 {
			continue
		}
		if ok, _ := l.ready(ctx, port); !ok {
			continue
		}
		if p := l.owner(g, rec, port); p != nil {
			return p
		}
	}
	return nil
}
