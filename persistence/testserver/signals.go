package testserver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// end signals the server and waits until it is gone; after stopTimeout it is killed.
func (p *process) end(sig syscall.Signal) error {
	if p == nil {
		return errForeign
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reap(syscall.WNOHANG) {
		return nil
	}
	if err := p.signal(sig); err != nil {
		return err
	}
	for deadline := time.Now().Add(stopTimeout); !p.reap(syscall.WNOHANG); time.Sleep(pollInterval) {
		if time.Now().After(deadline) {
			err := p.killTree()
			p.reap(0)
			return errors.Join(fmt.Errorf("stop %s: not gone after %v, killed it: %s", p.product.name, stopTimeout, p.log()), err)
		}
	}
	return nil
}

// signal reaches the server's first process. The caller holds mu.
func (p *process) signal(sig syscall.Signal) error {
	if p.source.image != "" {
		return p.docker("kill", "--signal", strconv.Itoa(int(sig)), p.container())
	}
	if err := syscall.Kill(p.pid, sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.product.name, err)
	}
	return nil
}

// kill ends every process of the server at once, as a crash of the machine
// would, except that what was written but not synced survives.
func (p *process) kill() error {
	if p == nil {
		return errForeign
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reap(syscall.WNOHANG) {
		return nil
	}
	err := p.killTree()
	p.reap(0)
	return err
}

func (p *process) killTree() error {
	if p.source.image != "" {
		return p.docker("kill", p.container())
	}
	// Stopped first, so that it starts nothing while we look, and killed last:
	// with it goes the list of its children, and one that is stopped does not
	// notice that it is alone.
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	waitState(p.pid, func(state byte) bool { return state == 'T' || state == unknown || over(state) })
	kids := children(p.pid)
	err := errors.Join(p.tell(kids, syscall.SIGKILL), p.signal(syscall.SIGKILL))
	// A process that was told to end may take a while, and holds what the next
	// start needs, such as the memory that PostgreSQL's processes share.
	for _, pid := range kids {
		if !waitState(pid, over) {
			err = errors.Join(err, fmt.Errorf("kill %s: its process %d is not gone after %v", p.product.name, pid, stopTimeout))
		}
	}
	return err
}

// over reports whether a process in this state of /proc holds nothing any more.
func over(state byte) bool { return state == 0 || state == 'Z' || state == 'X' }

// waitState waits for a process, whose state is 0 once it is not there, and
// reports whether it came to be so in time.
func waitState(pid int, ok func(state byte) bool) bool {
	for deadline := time.Now().Add(stopTimeout); !ok(stateOf(pid)); time.Sleep(pollInterval) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

const unknown = '?' // where there is no /proc

// stateOf is a letter of proc(5), or unknown.
func stateOf(pid int) byte {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if _, rest, found := bytes.Cut(raw, []byte(") ")); err == nil && found && len(rest) > 0 {
		return rest[0]
	}
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return 0
	}
	return unknown
}

// pause freezes the server and all its processes until resume.
func (p *process) pause() error { return p.freeze("pause", syscall.SIGSTOP) }

func (p *process) resume() error { return p.freeze("unpause", syscall.SIGCONT) }

func (p *process) freeze(verb string, sig syscall.Signal) error {
	if p == nil {
		return errForeign
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reap(syscall.WNOHANG) {
		return fmt.Errorf("%s %s: it does not run", verb, p.product.name)
	}
	if p.source.image != "" {
		return p.docker(verb, p.container())
	}
	return p.tree(sig)
}

// tree signals the first process, then its children: the backends of PostgreSQL
// are sessions of their own, so no group holds them all.
func (p *process) tree(sig syscall.Signal) error {
	if err := p.signal(sig); err != nil {
		return err
	}
	return p.tell(children(p.pid), sig)
}

// tell signals processes, some of which may have ended.
func (p *process) tell(pids []int, sig syscall.Signal) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal a process of %s: %w", p.product.name, err)
		}
	}
	return nil
}

func (p *process) docker(args ...string) error {
	if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// close ends the server and removes its folder. Idempotent.
func (p *process) close(sig syscall.Signal) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	if p.source.image != "" { // the guard removes the container, in whatever state it is
		defer p.mu.Unlock()
		err := p.guard.release()
		p.reap(0)
		return errors.Join(err, p.claim.Close())
	}
	var err error
	if !p.reap(syscall.WNOHANG) {
		err = p.tree(syscall.SIGCONT) // a paused one hears nothing
	}
	p.mu.Unlock()
	return errors.Join(err, p.end(sig), p.guard.release(), p.claim.Close())
}
