package launcher

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func supported() error { return nil }

// process is one process held by a pidfd: it cannot be mistaken for another
// process that gets the same pid later.
type process struct {
	pid   int
	start uint64 // ticks after boot, from /proc/<pid>/stat
	fd    *os.File
	done  chan struct{} // closed by finish
	once  sync.Once
	exit  Exit // valid after done
}

// errGone: there is no such process any more.
var errGone = errors.New("process is gone")

// openProcess holds pid, or answers errGone when it has ended.
func openProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.O_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, errGone // EINVAL: pid is now that of a thread
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return holdProcess(pid, fd)
}

// holdProcess takes over fd, a pidfd of pid.
func holdProcess(pid, fd int) (*process, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("hold process %d: %w", pid, err)
	}
	p := &process{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd"), done: make(chan struct{})}
	// The start time is read while the pidfd is held: had the process ended and
	// its pid been given away between the two, the pidfd would be readable.
	st, err := readStat(pid)
	if err != nil || st.dead() {
		p.close()
		return nil, errGone
	}
	p.start = st.start
	if p.ended() {
		p.close()
		return nil, errGone
	}
	return p, nil
}

func readable(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// control runs fn on the pidfd; it fails after close.
func (p *process) control(fn func(fd int)) error {
	rc, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Control(func(fd uintptr) { fn(int(fd)) })
}

// ended reports whether the process has ended; a closed one counts as ended.
func (p *process) ended() bool {
	end := true
	if err := p.control(func(fd int) { end = readable(fd) }); err != nil {
		return true
	}
	return end
}

// signal sends sig to exactly this process; errGone when it has ended.
func (p *process) signal(sig syscall.Signal) error {
	var err error
	if cerr := p.control(func(fd int) { err = unix.PidfdSendSignal(fd, sig, nil, 0) }); cerr != nil {
		select {
		case <-p.done: // finish closed the pidfd
			return errGone
		default:
			return fmt.Errorf("signal process %d: %w", p.pid, cerr)
		}
	}
	if errors.Is(err, unix.ESRCH) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	return nil
}

// wait blocks until the process has ended (true) or close was called (false).
// It needs no thread: the runtime's poller watches the pidfd.
func (p *process) wait() bool {
	rc, err := p.fd.SyscallConn()
	if err != nil {
		return false
	}
	return rc.Read(func(fd uintptr) bool { return readable(int(fd)) }) == nil
}

// outcome learns how an ended process ended. A child of ours is reaped; of any
// other process the kernel is asked without touching it, which may fail.
func (p *process) outcome() Exit {
	e := Exit{PID: p.pid, Code: -1, At: time.Now()}
	if ws, ok := p.reap(); ok {
		e.fill(ws)
		return e
	}
	// Its parent reaps it any moment: before that /proc knows, after it the pidfd.
	for range 10 {
		if st, err := readStat(p.pid); err == nil && st.start == p.start && st.state == 'Z' {
			e.fill(unix.WaitStatus(st.exitCode))
			return e
		}
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		var err error
		if cerr := p.control(func(fd int) { err = unix.IoctlPidfdInfo(fd, &info) }); cerr != nil {
			return e
		}
		if err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			e.fill(unix.WaitStatus(info.Exit_code))
			return e
		}
		time.Sleep(10 * time.Millisecond)
	}
	return e
}

func (e *Exit) fill(ws unix.WaitStatus) {
	e.known = true
	if ws.Signaled() {
		e.Signal = ws.Signal()
		return
	}
	e.Code = ws.ExitStatus()
}

// reap collects the process if it is a child of ours.
func (p *process) reap() (ws unix.WaitStatus, ok bool) {
	err := p.control(func(fd int) {
		// WNOWAIT only asks: ECHILD says that the process is not our child, and
		// until it is reaped below its pid cannot be given away.
		for {
			werr := unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
			if errors.Is(werr, unix.EINTR) {
				continue
			}
			if werr != nil {
				return
			}
			break
		}
		for {
			pid, werr := unix.Wait4(p.pid, &ws, unix.WNOHANG, nil)
			if errors.Is(werr, unix.EINTR) {
				continue
			}
			ok = werr == nil && pid == p.pid
			return
		}
	})
	return ws, ok && err == nil
}

// finish publishes the end of the process.
func (p *process) finish(e Exit) {
	p.once.Do(func() {
		p.exit = e
		close(p.done)
		p.close()
	})
}

// close lets the process go without touching it and ends wait.
func (p *process) close() { p.fd.Close() } //nolint:errcheck // closing a pidfd loses nothing

// spawn starts argv in a session of its own with output to out. The process
// gets no signal when Dash ends.
func spawn(argv, env []string, dir string, out *os.File) (*process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer null.Close()
	fd := -1
	child, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir: dir, Env: env, Files: []*os.File{null, out, out},
		Sys: &syscall.SysProcAttr{Setsid: true, PidFD: &fd},
	})
	if err != nil {
		return nil, err
	}
	pid := child.Pid
	if err := child.Release(); err != nil {
		return nil, fmt.Errorf("release process %d: %w", pid, err)
	}
	if fd < 0 {
		return nil, errors.New("this kernel gives no pidfd; Linux 5.4 or later is needed")
	}
	return holdChild(pid, fd)
}

// holdChild is holdProcess for a child that may have ended already: as nobody
// else reaps it, its pid and /proc entry stay until outcome.
func holdChild(pid, fd int) (*process, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("hold process %d: %w", pid, err)
	}
	p := &process{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd"), done: make(chan struct{})}
	st, err := readStat(pid)
	if err != nil {
		p.close()
		return nil, fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	p.start = st.start
	return p, nil
}
