package launcher

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
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

type bundle struct {
	*Launcher
	dir string
}

func command(args ...string) []string { return append([]string{os.Args[0]}, args...) }

// setup returns a launcher over an empty folder. At the test's end every
// process that was started in the folder is killed, by pid and launch id.
func setup(t *testing.T, change func(*Config)) *bundle {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { killAll(t, dir) })
	return &bundle{again(t, dir, change), dir}
}

// again returns another launcher over dir, as the next Dash process has one.
func again(t *testing.T, dir string, change func(*Config)) *Launcher {
	t.Helper()
	cfg := Config{Dir: dir, Command: command(argStandIn), BootSlots: 2, StartupTimeout: 20 * time.Second, Commands: [][]string{
		command(argWrapper), {"/nonexistent"}, {"openclaw"}, command(argStandIn, "--token=abc"),
	}}
	if change != nil {
		change(&cfg)
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	l.ports = portsFor(dir)
	return l
}

// portsFor gives each folder ports of its own, so that a gateway that comes
// back finds its port free although tests run beside each other.
func portsFor(dir string) portRange {
	block.Lock()
	defer block.Unlock()
	if _, ok := block.of[dir]; !ok {
		block.of[dir] = len(block.of)
	}
	first := 10000 + block.of[dir]%40*2*portStep
	return portRange{first, first + 2*portStep}
}

var block = struct {
	sync.Mutex
	of map[string]int
}{of: map[string]int{}}

func killAll(t *testing.T, dir string) {
	homes, err := filepath.Glob(filepath.Join(dir, "gateways", "*"))
	if err != nil {
		t.Error(err)
	}
	for _, home := range homes {
		for _, pid := range processesWith(envStateDir, filepath.Join(home, "state")) {
			p, err := openProcess(pid)
			if errors.Is(err, errGone) {
				continue
			}
			if err != nil {
				t.Error(err)
				continue
			}
			if err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, errGone) {
				t.Error(err)
			}
			p.wait()
			p.reap()
			p.close()
		}
	}
}

func with(b behaviour) messages.Managed {
	return messages.Managed{Config: map[string]any{"standIn": b}}
}

func mustEnsure(t *testing.T, l *Launcher, spec Spec) Endpoint {
	t.Helper()
	ep, err := l.Ensure(t.Context(), spec)
	if err != nil {
		t.Fatalf("Ensure: %v", err)
	}
	return ep
}

func awaitExit(t *testing.T, ch <-chan Exit) Exit {
	t.Helper()
	select {
	case e, ok := <-ch:
		if !ok {
			t.Fatal("Exited was closed without a value")
		}
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no exit was reported")
		return Exit{}
	}
}

func living(pid int) bool {
	st, err := readStat(pid)
	return err == nil && !st.dead()
}

func TestEnsureStartsAndStopDrains(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	ep := mustEnsure(t, l.Launcher, Spec{ID: "gw", Managed: with(behaviour{ReadyMillis: 100})})
	if ep.Adopted || ep.Stale || ep.Token.Empty() || !strings.HasPrefix(ep.URL, "ws://127.0.0.1:") || !living(ep.PID) {
		t.Fatalf("got endpoint %+v", ep)
	}
	if twice := mustEnsure(t, l.Launcher, Spec{ID: "gw", Managed: with(behaviour{ReadyMillis: 100})}); twice != ep {
		t.Errorf("second Ensure returned %+v, want %+v", twice, ep)
	}
	s, ok := l.status("gw")
	if !ok || s.Phase != PhaseRunning || s.PID != ep.PID {
		t.Errorf("got status %+v", s)
	}
	exits := l.Exited("gw")
	e, err := l.Stop(t.Context(), "gw")
	if err != nil {
		t.Fatal(err)
	}
	if !e.clean() || !e.Requested || e.PID != ep.PID {
		t.Errorf("got exit %+v, want a clean requested one", e)
	}
	if got := awaitExit(t, exits); got != e {
		t.Errorf("Exited yields %+v, Stop returned %+v", got, e)
	}
	if _, err := l.Stop(t.Context(), "gw"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("second Stop: %v, want ErrNotRunning", err)
	}
	if s, _ := l.status("gw"); s.Phase != PhaseAbsent {
		t.Errorf("got status %+v after the stop", s)
	}
}

func TestFilesArePrivateAndTokenIsNowhereElse(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	ep := mustEnsure(t, l.Launcher, Spec{ID: "gw"})
	home := filepath.Join(l.dir, "gateways", "gw")
	for _, name := range []string{"openclaw.json", "gateway.log", "launch.json", "lock"} {
		info, err := os.Stat(filepath.Join(home, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, info.Mode())
		}
	}
	if info, err := os.Stat(home); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v %v, want mode 0700", info.Mode(), err)
	}
	for _, name := range []string{procPath(ep.PID, "cmdline"), procPath(ep.PID, "environ"), filepath.Join(home, "launch.json")} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 || strings.Contains(string(b), ep.Token.Reveal()) {
			t.Errorf("%s is empty or holds the token", name)
		}
	}
	b, err := os.ReadFile(filepath.Join(home, "openclaw.json"))
	if err != nil || !strings.Contains(string(b), ep.Token.Reveal()) {
		t.Errorf("the configuration file does not hold the token (%v)", err)
	}
	st, err := readStat(ep.PID)
	if err != nil || st.session != ep.PID {
		t.Errorf("process is in session %d (%v), want its own", st.session, err)
	}
}

func TestCrashIsReported(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	ep := mustEnsure(t, l.Launcher, Spec{ID: "gw"})
	exits := l.Exited("gw")
	if err := syscall.Kill(ep.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e := awaitExit(t, exits)
	if e.Signal != syscall.SIGKILL || e.Code != -1 || e.Requested || !strings.Contains(e.Reason, "signal 9") {
		t.Errorf("got exit %+v", e)
	}
	next := mustEnsure(t, l.Launcher, Spec{ID: "gw"})
	if next.PID == ep.PID || next.URL != ep.URL || next.Token != ep.Token || next.Adopted {
		t.Errorf("after the crash got %+v, want a new process with port and token of %+v", next, ep)
	}
	exits = l.Exited("gw")
	port := strings.TrimSuffix(strings.TrimPrefix(next.URL, "ws://"), "/")
	if res, err := http.Post("http://"+port+"/exit/3", "", nil); err == nil {
		res.Body.Close()
	}
	if e := awaitExit(t, exits); e.Code != 3 || e.Signal != 0 {
		t.Errorf("got exit %+v, want code 3", e)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		managed   messages.Managed
		change    func(*Config)
		permanent bool
		code      int
		want      string
	}{
		{name: "exit 78", managed: with(behaviour{Exit: 78, Leak: true}), permanent: true, code: 78, want: "exit code 78"},
		{name: "exit 1", managed: with(behaviour{Exit: 1, Leak: true}), code: 1, want: "exit code 1"},
		{name: "never ready", managed: with(behaviour{ReadyMillis: -1, Leak: true}), code: -1, want: "503 (startup)",
			change: func(c *Config) { c.StartupTimeout = 5 * time.Second }},
		{name: "unknown key", managed: messages.Managed{Config: map[string]any{"unknownKey": 1}}, permanent: true, code: 78, want: "exit code 78"},
		{name: "missing program", managed: messages.Managed{Command: []string{"/nonexistent"}}, permanent: true, code: -1, want: "cannot be started"},
		{name: "relative program", managed: messages.Managed{Command: []string{"openclaw"}}, permanent: true, code: -1, want: "absolute"},
		{name: "no command", change: func(c *Config) { c.Command = nil }, permanent: true, code: -1, want: "no command"},
		{name: "port in config", managed: messages.Managed{Config: map[string]any{"gateway": map[string]any{"port": 1}}}, permanent: true, code: -1, want: "gateway.port"},
		{name: "auth in config", managed: messages.Managed{Config: map[string]any{"gateway": map[string]any{"auth": map[string]any{}}}}, permanent: true, code: -1, want: "gateway.auth"},
		{name: "gateway removed", managed: messages.Managed{Config: map[string]any{"gateway": nil}}, permanent: true, code: -1, want: "not an object"},
		{name: "garbage config", managed: messages.Managed{Config: map[string]any{"x": func() {}}}, permanent: true, code: -1, want: "JSON"},
		{name: "token argument", managed: messages.Managed{Command: command(argStandIn, "--token=abc")}, permanent: true, code: -1, want: "--token"},
		{name: "reserved variable", managed: messages.Managed{Env: map[string]string{"HOME": "/"}}, permanent: true, code: -1, want: "HOME"},
		{name: "bad variable", managed: messages.Managed{Env: map[string]string{"A=B": "/"}}, permanent: true, code: -1, want: "A=B"},
		{name: "zero byte", managed: messages.Managed{Env: map[string]string{"OPENAI_API_KEY": "a\x00b"}}, permanent: true, code: -1, want: "zero byte"},
		{name: "command that is not permitted", managed: messages.Managed{Command: command(argStandIn, "--more")}, permanent: true, code: -1, want: "--managed-commands"},
		{name: "relative folder", managed: messages.Managed{StateDir: "x"}, permanent: true, code: -1, want: "absolute"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := setup(t, tt.change)
			if tt.managed.Env == nil {
				tt.managed.Env = map[string]string{"PROVIDER_API_KEY": "sk-provider"}
			}
			_, err := l.Ensure(t.Context(), Spec{ID: "gw", Managed: tt.managed, Token: "0123456789abcdef-token"})
			se := startError(t, err)
			if se.Permanent != tt.permanent || se.ExitCode != tt.code || !strings.Contains(se.Error(), tt.want) || se.NextStep == "" {
				t.Errorf("got %+v (%v), want permanent %v, code %d, text %q", se, err, tt.permanent, tt.code, tt.want)
			}
			if tt.managed.Config["standIn"] != nil {
				if got := strings.Join(se.LogTail, "|"); !strings.Contains(got, "started with token [redacted][31m, key [redacted]") || strings.Contains(got, "\x1b") {
					t.Errorf("got log tail %q", got)
				}
			}
			if s, _ := l.status("gw"); s.Phase != PhaseAbsent {
				t.Errorf("got phase %s, want no process left", s.Phase)
			}
		})
	}
}

// startDash runs a Dash process and returns it with the first line it prints.
func startDash(t *testing.T, dir, how string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], argDash, dir, how)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	return cmd, strings.TrimSpace(line)
}

func TestGatewayOutlivesDashAndIsAdopted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { killAll(t, dir) })
	cmd, line := startDash(t, dir, "live")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatalf("the Dash process said %q", line)
	}
	l := again(t, dir, nil)
	if _, err := l.Ensure(t.Context(), Spec{ID: "gw"}); err == nil || !strings.Contains(err.Error(), "another Dash process") {
		t.Fatalf("Ensure beside a living Dash process: %v, want a refusal", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	ep := mustEnsure(t, l, Spec{ID: "gw"})
	if ep.PID != pid || !ep.Adopted || ep.Stale || ep.Token.Empty() {
		t.Fatalf("got %+v, want pid %d adopted", ep, pid)
	}
	exits := l.Exited("gw")
	e, err := l.Stop(t.Context(), "gw")
	if err != nil {
		t.Fatal(err)
	}
	// Kernels before 6.15 do not tell the exit code of a process that is not a
	// child: then it must be called unknown, not something else.
	if e.PID != pid || !e.Requested || (!e.clean() && !strings.Contains(e.Reason, "could not be learnt")) {
		t.Errorf("got exit %+v, want the adopted process's clean end", e)
	}
	awaitExit(t, exits)
}

func TestProcessWithoutRecordIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { killAll(t, dir) })
	cmd, line := startDash(t, dir, "die")
	cmd.Wait()
	if line != "" {
		t.Fatalf("the Dash process said %q, want its death", line)
	}
	rec, ok, err := readRecord(folder{filepath.Join(dir, "gateways", "gw")})
	if err != nil || !ok || rec.PID != 0 {
		t.Fatalf("got record %+v %v %v, want an intent", rec, ok, err)
	}
	pids := processesWith(envLaunchID, rec.LaunchID)
	if len(pids) != 1 {
		t.Fatalf("got processes %v, want one", pids)
	}
	ep := mustEnsure(t, again(t, dir, nil), Spec{ID: "gw"})
	if ep.PID != pids[0] || !ep.Adopted {
		t.Errorf("got %+v, want pid %d adopted", ep, pids[0])
	}
}

// TestReusedPIDIsLeftAlone: the record names a living process that is not the
// gateway, as after a reuse of its pid.
func TestReusedPIDIsLeftAlone(t *testing.T) {
	t.Parallel()
	boot, err := hostBootID()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*record){
		"other start time": func(r *record) { r.StartTicks-- },
		"other host boot":  func(r *record) { r.HostBootID = "an-earlier-boot" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := exec.Command("/bin/sleep", "600")
			if err := other.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { other.Wait(); close(ended) }()
			t.Cleanup(func() { other.Process.Kill(); <-ended })
			st, err := readStat(other.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			l := setup(t, nil)
			dir, err := l.folderOf("gw", "")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(dir.base, 0o700); err != nil {
				t.Fatal(err)
			}
			rec := record{Version: recordVersion, Gateway: "gw", LaunchID: "feed", HostBootID: boot, PID: other.Process.Pid, StartTicks: st.start, Port: 20000, ReadyAt: time.Now()}
			change(&rec)
			if err := rec.write(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Kill(t.Context(), "gw"); !errors.Is(err, ErrNotRunning) {
				t.Errorf("Kill: %v, want ErrNotRunning", err)
			}
			if ep := mustEnsure(t, l.Launcher, Spec{ID: "gw"}); ep.PID == other.Process.Pid || ep.Adopted {
				t.Errorf("got %+v, want a new process", ep)
			}
			if _, err := l.Kill(t.Context(), "gw"); err != nil {
				t.Error(err)
			}
			select {
			case <-ended:
				t.Error("the other process was ended")
			default:
			}
		})
	}
}

func TestStopInterruptsStart(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	res := make(chan error, 1)
	go func() {
		_, err := l.Ensure(context.Background(), Spec{ID: "gw", Managed: with(behaviour{ReadyMillis: -1})})
		res <- err
	}()
	for {
		if s, ok := l.status("gw"); ok && s.Phase == PhaseStarting && ownerOf(envStateDir, homeOf(t, l.Launcher, "gw").state(), s.Port) == s.PID {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if e, err := l.Stop(t.Context(), "gw"); err != nil || !e.clean() {
		t.Errorf("Stop: %+v %v", e, err)
	}
	if err := <-res; !errors.Is(err, ErrInterrupted) {
		t.Errorf("Ensure: %v, want ErrInterrupted", err)
	}
}

func TestWantedPortTaken(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l := setup(t, nil)
	_, err = l.Ensure(t.Context(), Spec{ID: "gw", Managed: messages.Managed{Port: ln.Addr().(*net.TCPAddr).Port}})
	if se := startError(t, err); se.Permanent || !strings.Contains(se.Reason, "is taken") {
		t.Errorf("got %+v", se)
	}
}
