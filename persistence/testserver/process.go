package testserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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

// errForeign answers what would disturb a server that is not ours: the nil process.
var errForeign = errors.New("the server belongs to somebody else: this needs a private one")

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
	port, claim, err := FreePorts(1)
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	g, err := newGuard(dir)
	if err != nil {
		return nil, errors.Join(err, claim.Close(), os.Remove(dir))
	}
	return &process{product: p, source: src, account: acc, dir: dir, port: port, claim: claim, guard: g}, nil
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
	if p == nil {
		return errForeign
	}
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

// running reports whether the server was started and has not ended.
func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.reap(syscall.WNOHANG)
}

func (p *process) pidFile() string { return filepath.Join(p.dir, "pid") }
func (p *process) logFile() string { return filepath.Join(p.dir, "log") }
func (p *process) log() string     { return tail(p.logFile()) }

// write creates a file that the server's user may read.
func (p *process) write(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write a file of %s: %w", p.product.name, err)
	}
	if p.account != nil {
		if err := os.Chown(path, p.account.uid, p.account.gid); err != nil {
			return fmt.Errorf("write a file of %s: %w", p.product.name, err)
		}
	}
	return nil
}

// tail is the end of a text file, to be quoted in an error.
func tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	return string(bytes.TrimSpace(raw[max(0, len(raw)-most):]))
}
