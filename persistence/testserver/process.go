package testserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 60 * time.Second // a replay after a crash takes its time
	stopTimeout  = 30 * time.Second
	pollInterval = 5 * time.Millisecond
)

// process is one server's folder and, while it runs, its process or container.
type process struct {
	product product
	source  source
	account *account
	dir     string // data/, log, pid or container
	port    int
	args    []string // what follows the program's name
	guard   *guard
	claim   io.Closer // of the port

	mu     sync.Mutex
	pid    int // 0 while stopped
	closed bool
}

// newProcess makes the folder and its guard; nothing runs yet.
func newProcess(p product, parent string) (*process, error) {
	src, err := p.find()
	if err != nil {
		return nil, err
	}
	acc, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := acc.folder(parent, "dash-"+p.program+"-")
	if err != nil {
		return nil, err
	}
	port, claim, err := freePort()
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	g, err := newGuard(dir)
	if err != nil {
		return nil, errors.Join(err, claim.Close(), os.Remove(dir))
	}
	return &process{product: p, source: src, account: acc, dir: dir, port: port, claim: claim, guard: g}, nil
}

// freePort finds a port that nobody listens on, below those that the operating
// system gives to clients: it must still be free after a restart. The claim
// keeps it from other processes that choose one, until it is closed.
func freePort() (port int, claim io.Closer, err error) {
	for range 100 {
		port = 15000 + rand.IntN(15000)
		if claim, err = claimPort(port); err != nil {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, claim, l.Close()
		}
		err = errors.Join(err, claim.Close())
	}
	return 0, nil, fmt.Errorf("find a free port: %w", err)
}

// claimPort takes a name that one process of the machine can have at a time and
// that the kernel frees with it. Only Linux has such names; elsewhere ports are
// kept apart by chance alone.
func claimPort(port int) (io.Closer, error) {
	if runtime.GOOS != "linux" {
		return io.NopCloser(nil), nil
	}
	return net.Listen("unix", "@dash-testserver-"+strconv.Itoa(port))
}

func (p *process) data() string { return filepath.Join(p.dir, "data") }

// container is the name of the server's container in Docker.
func (p *process) container() string { return filepath.Base(p.dir) }

// command builds the call of a program of the server's product; env are
// variables on top of ours.
func (p *process) command(program, name string, env []string, args ...string) *exec.Cmd {
	if p.source.image == "" {
		cmd := exec.Command(filepath.Join(p.source.bin, program), args...)
		cmd.Dir, cmd.Env = p.dir, append(os.Environ(), env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.account.credential(), Setsid: true}
		return cmd
	}
	uid, gid := os.Getuid(), os.Getgid()
	if p.account != nil {
		uid, gid = p.account.uid, p.account.gid
	}
	// The network of the host, so that servers reach each other on loopback.
	run := []string{"run", "--rm", "--name", name, "--network", "host", "--volume", p.dir + ":" + p.dir,
		"--volume", "/etc/passwd:/etc/passwd:ro", "--user", fmt.Sprintf("%d:%d", uid, gid), "--workdir", p.dir, "--entrypoint", program}
	for _, e := range env {
		run = append(run, "--env", e)
	}
	cmd := exec.Command("docker", append(append(run, p.source.image), args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// run carries out a program of the product that ends by itself, such as initdb.
func (p *process) run(ctx context.Context, program string, env []string, args ...string) error {
	cmd := p.command(program, p.container()+"-"+program, env, args...)
	out, err := os.CreateTemp(p.dir, program)
	if err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() }) // it may have ended meanwhile
	defer stop()
	if err := cmd.Wait(); err != nil {
		return errors.Join(fmt.Errorf("run %s: %w: %s", program, err, tail(out.Name())), ctx.Err())
	}
	return nil
}

// start runs the server and waits until ready succeeds.
func (p *process) start(ctx context.Context, ready func(context.Context) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.pid != 0 {
		return fmt.Errorf("start %s: it is running or closed", p.product.name)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.spawn(); err != nil {
		return fmt.Errorf("start %s: %w", p.product.name, err)
	}
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := ready(try)
		cancel()
		if err == nil {
			return nil
		}
		if p.reap(syscall.WNOHANG) {
			return fmt.Errorf("start %s: it ended: %s", p.product.name, p.log())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start %s: %w: %w: %s", p.product.name, ctx.Err(), err, p.log())
		case <-time.After(pollInterval):
		}
	}
}

// spawn starts the process. It notes its own id before it becomes the server,
// so that the guard never misses it.
func (p *process) spawn() error {
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := p.command(p.product.program, p.container(), nil, p.args...)
	if p.source.image == "" {
		cmd.Args = append([]string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, p.pidFile(), cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	} else if err := os.WriteFile(filepath.Join(p.dir, "container"), []byte(p.container()+"\n"), 0o644); err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	p.pid = cmd.Process.Pid
	// From here on it is known by its id, which stays taken until reap.
	return cmd.Process.Release()
}

// reap takes the exit of the process, at once or when it comes. It reports
// whether the process has ended. The caller holds mu.
func (p *process) reap(options int) bool {
	for p.pid != 0 {
		got, err := syscall.Wait4(p.pid, nil, options, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err == nil && got == 0 {
			return false
		}
		p.pid = 0
		_ = os.Remove(p.pidFile()) // gone already when it ended before it wrote it
	}
	return true
}

// end signals the server and waits until it is gone; after stopTimeout it is killed.
func (p *process) end(sig syscall.Signal) error {
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
	return errors.Join(p.tell(children(p.pid), syscall.SIGKILL), p.signal(syscall.SIGKILL))
}

// pause freezes the server and all its processes until resume.
func (p *process) pause() error { return p.freeze("pause", syscall.SIGSTOP) }

func (p *process) resume() error { return p.freeze("unpause", syscall.SIGCONT) }

func (p *process) freeze(verb string, sig syscall.Signal) error {
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

func children(pid int) []int {
	name := strconv.Itoa(pid)
	out, err := os.ReadFile("/proc/" + name + "/task/" + name + "/children")
	if err != nil {
		out, _ = exec.Command("pgrep", "-P", name).Output() // exit 1 says that there are none
	}
	var all []int
	for _, field := range strings.Fields(string(out)) {
		if child, err := strconv.Atoi(field); err == nil {
			all = append(all, child)
		}
	}
	return all
}

func (p *process) docker(args ...string) error {
	if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// close ends the server and removes its folder. Idempotent.
func (p *process) close(sig syscall.Signal) error {
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

// running reports whether the server was started and has not ended.
func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.reap(syscall.WNOHANG)
}

func (p *process) pidFile() string { return filepath.Join(p.dir, "pid") }
func (p *process) logFile() string { return filepath.Join(p.dir, "log") }
func (p *process) log() string     { return tail(p.logFile()) }

// tail is the end of a text file, to be quoted in an error.
func tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	return string(bytes.TrimSpace(raw[max(0, len(raw)-most):]))
}
