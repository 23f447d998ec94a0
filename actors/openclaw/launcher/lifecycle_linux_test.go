package launcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// until waits for a condition that some process brings about.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// gate returns a path for BootUntil or DrainUntil and what makes it exist.
func gate(t *testing.T) (path string, open func()) {
	path = filepath.Join(t.TempDir(), "gate")
	return path, func() {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Error(err)
		}
	}
}

func homeOf(t *testing.T, l *Launcher, id string) folder {
	t.Helper()
	dir, err := l.folderOf(id, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBootsAreStaggered(t *testing.T) {
	t.Parallel()
	l := setup(t, func(c *Config) { c.BootSlots = 1 })
	marks := filepath.Join(l.dir, "marks")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			_, err := l.Ensure(t.Context(), Spec{ID: fmt.Sprint("gw-", i), Managed: with(behaviour{ReadyMillis: 50, Marker: marks})})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(marks)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 8 {
		t.Fatalf("got %d marks, want 8:\n%s", len(lines), b)
	}
	for i, line := range lines {
		if want := []string{"start", "ready"}[i%2]; !strings.HasPrefix(line, want) {
			t.Errorf("mark %d is %q, want %s: two boots overlapped", i, line, want)
		}
	}
}

func TestCloseLeavesProcessesRunning(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	ep := mustEnsure(t, l.Launcher, Spec{ID: "gw"})
	l.Close()
	if !living(ep.PID) {
		t.Fatal("Close ended the gateway")
	}
	if _, err := l.Ensure(t.Context(), Spec{ID: "gw"}); !errors.Is(err, ErrClosed) {
		t.Errorf("Ensure after Close: %v, want ErrClosed", err)
	}
	next := again(t, l.dir, nil)
	got := mustEnsure(t, next, Spec{ID: "gw", MaxConcurrency: 3})
	if got.PID != ep.PID || !got.Adopted || got.Token != ep.Token || !got.Stale {
		t.Errorf("got %+v, want %+v adopted and stale", got, ep)
	}
	exits := next.Exited("gw")
	if err := syscall.Kill(ep.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := awaitExit(t, exits); e.Requested || (e.Signal != syscall.SIGKILL && e.known) {
		t.Errorf("got exit %+v of the adopted process", e)
	}
}

func TestAdoptStartsNothing(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	if _, err := l.Adopt(t.Context(), Spec{ID: "gw"}); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("Adopt of nothing: %v, want ErrNotRunning", err)
	}
	ep := mustEnsure(t, l.Launcher, Spec{ID: "gw"})
	l.Close()
	// A configuration that cannot be started must not hinder adoption.
	got, err := again(t, l.dir, nil).Adopt(t.Context(), Spec{ID: "gw", Managed: messages.Managed{Command: []string{"/nonexistent"}}})
	if err != nil || got.PID != ep.PID || !got.Stale {
		t.Errorf("got %+v %v, want pid %d adopted", got, err, ep.PID)
	}
}

// TestCancelledEnsureLeavesTheBoot: Dash ends while a gateway boots.
func TestCancelledEnsureLeavesTheBoot(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	path, open := gate(t)
	spec := Spec{ID: "gw", Managed: with(behaviour{BootUntil: path})}
	ctx, cancel := context.WithCancel(t.Context())
	res := make(chan error, 1)
	go func() { _, err := l.Ensure(ctx, spec); res <- err }()
	until(t, "a starting process", func() bool { s, _ := l.status("gw"); return s.Phase == PhaseStarting })
	s, _ := l.status("gw")
	cancel()
	if err := <-res; !errors.Is(err, context.Canceled) {
		t.Errorf("Ensure: %v, want context.Canceled", err)
	}
	l.Close()
	open()
	if ep := mustEnsure(t, again(t, l.dir, nil), spec); ep.PID != s.PID || !ep.Adopted {
		t.Errorf("got %+v, want the booting process %d adopted", ep, s.PID)
	}
}

func TestAdoptedProcessThatNeverBecomesReadyIsEnded(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	spec := Spec{ID: "gw", Managed: with(behaviour{ReadyMillis: -1})}
	ctx, cancel := context.WithCancel(t.Context())
	res := make(chan error, 1)
	go func() { _, err := l.Ensure(ctx, spec); res <- err }()
	until(t, "a process", func() bool { s, _ := l.status("gw"); return s.PID != 0 })
	s, _ := l.status("gw")
	cancel()
	if err := <-res; err == nil {
		t.Fatal("a process that was never ready was reported as up")
	}
	l.Close()
	next := again(t, l.dir, func(c *Config) { c.StartupTimeout = 500 * time.Millisecond })
	_, err := next.Ensure(t.Context(), spec)
	if se := startError(t, err); se.Permanent || !strings.Contains(se.Reason, "still not ready") {
		t.Errorf("got %+v", se)
	}
	if living(s.PID) {
		t.Error("the process is still there")
	}
}

// TestDrainingProcessIsNotEnded: once ready, a process is only ended on request.
func TestDrainingProcessIsNotEnded(t *testing.T) {
	t.Parallel()
	path, open := gate(t)
	spec := Spec{ID: "gw", Managed: with(behaviour{DrainUntil: path})}
	first := setup(t, nil)
	ep := mustEnsure(t, first.Launcher, spec)
	first.Close()
	l := again(t, first.dir, func(c *Config) { c.StartupTimeout = 2 * time.Second })
	mustEnsure(t, l, spec)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Stop(ctx, "gw"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Stop: %v, want its deadline", err)
	}
	if s, _ := l.status("gw"); s.Phase != PhaseStopping {
		t.Errorf("got phase %s, want stopping", s.Phase)
	}
	_, err := l.Ensure(t.Context(), spec)
	if se := startError(t, err); se.Permanent || !se.Alive || !strings.Contains(se.Reason, "lives but is not ready") {
		t.Errorf("got %+v", se)
	}
	if !living(ep.PID) {
		t.Fatal("the draining process was ended")
	}
	exits := l.Exited("gw")
	open()
	if e := awaitExit(t, exits); !e.Requested || (e.known && !e.clean()) {
		t.Errorf("got exit %+v", e)
	}
	l.Close()
	if next := mustEnsure(t, again(t, first.dir, nil), spec); next.PID == ep.PID || next.URL != ep.URL {
		t.Errorf("got %+v after the drain, want a new process on the same port", next)
	}
}

func TestKillInterruptsStopAndEndsTheTree(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	ep := mustEnsure(t, l.Launcher, Spec{ID: "gw", Managed: messages.Managed{
		Command: command(argWrapper), Config: map[string]any{"standIn": behaviour{DrainUntil: "/nonexistent/gate", Child: true}}}})
	rec, _, err := readRecord(homeOf(t, l.Launcher, "gw"))
	if err != nil {
		t.Fatal(err)
	}
	tree := processesWith(envLaunchID, rec.LaunchID)
	if len(tree) != 3 || ep.PID == rootOf(tree) || rec.PID != ep.PID {
		t.Fatalf("got pid %d of processes %v, record %d; want the wrapper's child with a child", ep.PID, tree, rec.PID)
	}
	res := make(chan error, 1)
	go func() { _, err := l.Stop(context.Background(), "gw"); res <- err }()
	until(t, "the stop", func() bool { s, _ := l.status("gw"); return s.Phase == PhaseStopping })
	if e, err := l.Kill(t.Context(), "gw"); err != nil || e.PID != ep.PID || !e.Requested {
		t.Errorf("Kill: %+v %v", e, err)
	}
	if err := <-res; !errors.Is(err, ErrInterrupted) {
		t.Errorf("Stop: %v, want ErrInterrupted", err)
	}
	until(t, "the end of the tree", func() bool { return len(processesWith(envLaunchID, rec.LaunchID)) == 0 })
}

func TestDaemonOfAWrapperIsAdopted(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	spec := Spec{ID: "gw", Managed: messages.Managed{Command: command(argWrapper)}}
	ep := mustEnsure(t, l.Launcher, spec)
	l.Close()
	next := again(t, l.dir, nil)
	if got := mustEnsure(t, next, spec); got.PID != ep.PID || !got.Adopted || got.Stale {
		t.Fatalf("got %+v, want %+v adopted", got, ep)
	}
	if _, err := next.Stop(t.Context(), "gw"); err != nil {
		t.Error(err)
	}
}

// TestLostRecord: launch.json is gone or garbage, the process lives.
func TestLostRecord(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"garbage": func(path string) error { return os.WriteFile(path, []byte(`{"pid":`), 0o600) },
		"foolish": func(path string) error { return os.WriteFile(path, []byte(`{"version":1,"pid":-1}`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := setup(t, nil)
			ep := mustEnsure(t, l.Launcher, Spec{ID: "gw"})
			l.Close()
			if err := damage(homeOf(t, l.Launcher, "gw").record()); err != nil {
				t.Fatal(err)
			}
			got := mustEnsure(t, again(t, l.dir, nil), Spec{ID: "gw", Token: "another-token-of-the-store"})
			if got.PID != ep.PID || got.Token != ep.Token || !got.Adopted {
				t.Errorf("got %+v, want %+v adopted with its own token", got, ep)
			}
		})
	}
}

// TestLivingOwnerOfTheStateFolder: exit 78 because a process that no record
// tells of, on a port that nothing tells of, owns the state folder.
func TestLivingOwnerOfTheStateFolder(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	dir := homeOf(t, l.Launcher, "gw")
	for _, d := range []string{dir.state(), dir.home()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0") // no port that tests beside this one choose from
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	elsewhere := filepath.Join(l.dir, "elsewhere.json")
	const token = "token-of-the-living-owner"
	config := fmt.Sprintf(`{"gateway":{"mode":"local","port":%d,"auth":{"token":%q}}}`, port, token)
	known := strings.Replace(config, strconv.Itoa(port), "1024", 1) // the right token, a port long gone
	for path, text := range map[string]string{elsewhere: config, dir.config(): known} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	owner := exec.Command(os.Args[0], argStandIn)
	owner.Env = []string{"OPENCLAW_CONFIG_PATH=" + elsewhere, envStateDir + "=" + dir.state()}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { owner.Process.Kill(); owner.Wait() })
	until(t, "the owner to listen", func() bool { return ownerOf(envStateDir, dir.state(), port) == owner.Process.Pid })

	ep := mustEnsure(t, l.Launcher, Spec{ID: "gw", Token: "a-token-that-the-store-knows"})
	if ep.PID != owner.Process.Pid || !ep.Adopted || ep.Token != token || !ep.Stale {
		t.Errorf("got %+v, want pid %d adopted with its token", ep, owner.Process.Pid)
	}
	if b, err := os.ReadFile(dir.config()); err != nil || string(b) != known {
		t.Errorf("the owner's configuration was not put back: %s %v", b, err)
	}
}

func TestUnknownTokenIsNotAdopted(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	ep := mustEnsure(t, l.Launcher, Spec{ID: "gw"})
	l.Close()
	if err := os.Remove(homeOf(t, l.Launcher, "gw").config()); err != nil {
		t.Fatal(err)
	}
	next := again(t, l.dir, nil)
	_, err := next.Ensure(t.Context(), Spec{ID: "gw", Token: "not-the-token-it-runs-with"})
	if se := startError(t, err); !se.Permanent || !strings.Contains(se.Reason, "token") {
		t.Errorf("got %+v", se)
	}
	if !living(ep.PID) {
		t.Error("the process was ended")
	}
	if got := mustEnsure(t, next, Spec{ID: "gw", Token: ep.Token}); got.PID != ep.PID {
		t.Errorf("got %+v with the right token, want pid %d", got, ep.PID)
	}
}

// TestPortTakenWhileStarting: somebody binds the port after it was chosen.
func TestPortTakenWhileStarting(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	path, open := gate(t)
	stolen := ""
	l.afterSpawn = func() {
		if stolen != "" {
			open() // the first process never gets so far as to bind
			return
		}
		rec, _, err := readRecord(homeOf(t, l.Launcher, "gw"))
		if err != nil {
			t.Error(err)
			return
		}
		stolen = net.JoinHostPort("127.0.0.1", strconv.Itoa(rec.Port))
		ln, err := net.Listen("tcp4", stolen)
		if errors.Is(err, syscall.EADDRINUSE) {
			return // a test beside this one was as quick: that does as well
		}
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { ln.Close() })
	}
	ep := mustEnsure(t, l.Launcher, Spec{ID: "gw", Managed: with(behaviour{BootUntil: path})})
	if stolen == "" || strings.Contains(ep.URL, stolen) {
		t.Errorf("got %+v with %s taken, want another port", ep, stolen)
	}
}

// TestPortLostAtTheEnd: the daemon itself finds its port taken and gives up
// before the launcher has looked.
func TestPortLostAtTheEnd(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	g, err := l.lookup("gw", true)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	g.dir = homeOf(t, l.Launcher, "gw")
	g.rec.Port = ln.Addr().(*net.TCPAddr).Port
	_, err = l.failedStart(t.Context(), g, Exit{Code: 1, known: true}, previous{}, "token", nil, &plan{})
	if !errors.Is(err, errForeign) {
		t.Errorf("got %v, want errForeign, so that another port is tried", err)
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	dir := homeOf(t, l.Launcher, "gw")
	first := mustEnsure(t, l.Launcher, Spec{ID: "gw"})
	if err := l.Forget(t.Context(), "gw"); messages.CodeOf(err) != messages.CodeConflict {
		t.Fatalf("Forget of a running gateway: %v, want a conflict", err)
	}
	if _, err := l.Kill(t.Context(), "gw"); err != nil {
		t.Fatal(err)
	}
	if err := l.Forget(t.Context(), "gw"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir.state()); err != nil {
		t.Errorf("the state is gone: %v", err)
	}
	if _, ok := l.status("gw"); ok {
		t.Error("the gateway is still known")
	}
	if second := mustEnsure(t, l.Launcher, Spec{ID: "gw"}); second.URL != first.URL || second.Token != first.Token {
		t.Errorf("got %+v, want port and token of %+v", second, first)
	}
	if err := l.Forget(t.Context(), "never-heard-of"); err != nil {
		t.Errorf("Forget of an unknown gateway: %v", err)
	}
}

func TestStrangeIDs(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	for _, id := range []string{"...", "a:b", ".hidden"} {
		mustEnsure(t, l.Launcher, Spec{ID: id})
		dir := homeOf(t, l.Launcher, id)
		if filepath.Dir(dir.base) != filepath.Join(l.dir, "gateways") {
			t.Errorf("id %q lives in %s", id, dir.base)
		}
	}
	for _, id := range []string{"", ".", "..", "a/b", "a b", strings.Repeat("x", 129)} {
		if _, err := l.Ensure(t.Context(), Spec{ID: id}); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("id %q: %v, want a refusal", id, err)
		}
	}
	e, open := <-l.Exited("never-heard-of")
	if open {
		t.Errorf("Exited of an unknown gateway yields %+v", e)
	}
}

// TestManyCallersAtOnce: whatever comes together, there is one process.
func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	var wg sync.WaitGroup
	pids := make(chan int, 16)
	for range 16 {
		wg.Go(func() {
			ep, err := l.Ensure(t.Context(), Spec{ID: "gw", Managed: with(behaviour{ReadyMillis: 50})})
			if err != nil {
				t.Error(err)
			}
			l.status("gw")
			pids <- ep.PID
		})
	}
	wg.Wait()
	first := <-pids
	for range 15 {
		if pid := <-pids; pid != first {
			t.Errorf("got pids %d and %d", first, pid)
		}
	}
	if all := processesWith(envStateDir, homeOf(t, l.Launcher, "gw").state()); len(all) != 1 {
		t.Errorf("got processes %v, want one", all)
	}
}

func TestOutputIsKeptAndBounded(t *testing.T) {
	t.Parallel()
	l := setup(t, func(c *Config) { c.LogLimit = 1000 })
	spec := Spec{ID: "gw", Managed: with(behaviour{Leak: true})}
	dir := homeOf(t, l.Launcher, "gw")
	mustEnsure(t, l.Launcher, spec)
	if _, err := l.Kill(t.Context(), "gw"); err != nil {
		t.Fatal(err)
	}
	mustEnsure(t, l.Launcher, spec)
	for _, path := range []string{dir.output(), dir.output() + older} {
		if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "started with") {
			t.Errorf("%s holds %q, %v", path, b, err)
		}
	}
	if err := os.WriteFile(dir.output(), []byte(strings.Repeat("a", 500)+strings.Repeat("b", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	l.trimOnce()
	if b, err := os.ReadFile(dir.output() + older); err != nil || string(b) != strings.Repeat("b", 1000) {
		t.Errorf("the older file holds %d bytes (%v), want the last 1000", len(b), err)
	}
	if info, err := os.Stat(dir.output()); err != nil || info.Size() != 0 {
		t.Errorf("the output has %d bytes (%v), want none", info.Size(), err)
	}
}

// A folder that was no gateway's keeps what stands in a gateway's places: it would
// be written over.
func TestAFolderOfSomebodyElse(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	for _, name := range []string{"state", "home", "workspace", "openclaw.json"} {
		own := t.TempDir()
		if err := os.WriteFile(filepath.Join(own, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := l.Ensure(t.Context(), Spec{ID: "gw-" + name, Managed: messages.Managed{StateDir: own}})
		if se := startError(t, err); !se.Permanent || !strings.Contains(se.Reason, strconv.Quote(name)) {
			t.Errorf("%s: %+v", name, se)
		}
		entries, err := os.ReadDir(own)
		if err != nil || len(entries) != 1 {
			t.Errorf("%s: the folder has %v now (%v)", name, entries, err)
		}
	}
}

func TestFolderOthersCanWriteTo(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	own := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(own, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := l.Ensure(t.Context(), Spec{ID: "gw", Managed: messages.Managed{StateDir: own}})
	if se := startError(t, err); !se.Permanent || !strings.Contains(se.Reason, "other users") {
		t.Errorf("got %+v", se)
	}
}
