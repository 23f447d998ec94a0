package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Stop asks the daemon to drain (SIGTERM) and waits for its end: runs in
// progress finish, which takes a real gateway up to 325 s. When ctx ends first
// the daemon goes on draining. An Ensure under way is interrupted. A gateway
// this launcher was never asked about is found by its record. ErrNotRunning
// when there is no process.
func (l *Launcher) Stop(ctx context.Context, id string) (Exit, error) {
	ctx, g, p, end, err := l.take(ctx, id, opStop)
	if err != nil {
		return Exit{}, err
	}
	defer end()
	if p == nil {
		return Exit{}, ErrNotRunning
	}
	return l.signalAndWait(ctx, g, p, syscall.SIGTERM)
}

// Kill ends the daemon at once (SIGKILL), and with it every process that was
// started by it and still carries its launch id, and waits for its end. It
// interrupts Ensure and Stop. ErrNotRunning when there was no process.
func (l *Launcher) Kill(ctx context.Context, id string) (Exit, error) {
	ctx, g, p, end, err := l.take(ctx, id, opKill)
	if err != nil {
		return Exit{}, err
	}
	defer end()
	defer l.killLaunch(g.rec.LaunchID)
	if p == nil {
		return Exit{}, ErrNotRunning
	}
	return l.signalAndWait(ctx, g, p, syscall.SIGKILL)
}

func (l *Launcher) signalAndWait(ctx context.Context, g *gateway, p *process, sig syscall.Signal) (Exit, error) {
	g.mu.Lock()
	g.asked = true
	g.mu.Unlock()
	l.log.Info("signalling gateway process", "gateway", g.id, "pid", p.pid, "signal", sig.String())
	if err := p.signal(sig); err != nil && !errors.Is(err, errGone) {
		return Exit{}, fmt.Errorf("stop gateway %s: %w", g.id, err)
	}
	select {
	case <-p.done:
		return p.exit, nil
	case <-ctx.Done():
		return Exit{}, fmt.Errorf("process %d of gateway %s has not ended yet: %w", p.pid, g.id, context.Cause(ctx))
	}
}

// take gets the gateway's turn and its living process, if there is one.
func (l *Launcher) take(ctx context.Context, id string, rank int) (context.Context, *gateway, *process, func(), error) {
	g, err := l.lookup(id, true)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	ctx, end, err := l.begin(ctx, g, rank)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	p, err := l.attach(g)
	if err != nil {
		end()
		return nil, nil, nil, nil, err
	}
	return ctx, g, p, end, nil
}

func (l *Launcher) attach(g *gateway) (*process, error) {
	if p := g.alive(); p != nil {
		return p, nil
	}
	dir := g.dir
	if dir.base == "" {
		var err error
		if dir, err = l.folderOf(g.id, ""); err != nil {
			return nil, err
		}
		if _, err := os.Stat(dir.base); isMissing(err) {
			return nil, nil
		}
	}
	if err := g.open(dir); err != nil {
		return nil, err
	}
	return l.find(g)
}

// Forget lets go of a gateway that has no process, and frees its lock. Its folder
// stays: a gateway of that id that is added again finds its sessions there.
func (l *Launcher) Forget(ctx context.Context, id string) error {
	_, g, p, end, err := l.take(ctx, id, opStop)
	if err != nil {
		return err
	}
	defer end()
	if p != nil {
		return &messages.Error{Code: messages.CodeConflict, Message: fmt.Sprintf("process %d of gateway %s is running", p.pid, id), NextStep: next.StopGatewayFirst}
	}
	g.release()
	l.mu.Lock()
	defer l.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgotten = true
	delete(l.gateways, id)
	return nil
}
