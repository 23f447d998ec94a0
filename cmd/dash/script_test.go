package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/bcrypt"
)

// The scripts run the real command, and real nodes with simulated gateways.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dash": func() {
		bcryptCost = bcrypt.MinCost
		os.Exit(realMain())
	}})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			return os.Mkdir(filepath.Join(e.WorkDir, "home"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"background": background, "exitcode": exitcode, "eventually": eventually,
		},
		RequireExplicitExec: true,
	})
}

// patience bounds every wait of a script: a key's bcrypt hash alone takes
// seconds under the race detector on a busy machine.
const patience = 90 * time.Second

// background VARIABLE PATTERN dash args… starts a command that goes on, waits
// until a line of its output matches PATTERN, and sets VARIABLE to the first
// group. At the script's end it gets SIGINT and must then exit with 0.
func background(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: background VARIABLE PATTERN program args…")
	}
	pattern := regexp.MustCompile(args[1])
	program, err := exec.LookPath(args[2])
	ts.Check(err)
	cmd := exec.Command(program, args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"HOME", "PATH", "TMPDIR", "WORK"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	read, write, err := os.Pipe()
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = write, write
	ts.Check(cmd.Start())
	ts.Check(write.Close())
	found := make(chan string, 1)
	rest := make(chan string, 1)
	go func() { rest <- watchOutput(read, pattern, found) }()
	ts.Defer(func() {
		stopped := cmd.Process.Signal(syscall.SIGINT)
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		output := <-rest
		if err := cmd.Wait(); err != nil && stopped == nil {
			ts.Fatalf("%s after SIGINT: %v\n%s", strings.Join(args[2:], " "), err, output)
		}
	})
	select {
	case v, ok := <-found:
		if !ok {
			ts.Fatalf("%s ended without a line like %s", strings.Join(args[2:], " "), args[1])
		}
		ts.Setenv(args[0], v)
	case <-time.After(patience):
		ts.Fatalf("%s did not print a line like %s", strings.Join(args[2:], " "), args[1])
	}
}

// watchOutput reads all output and reports the first match.
func watchOutput(r *os.File, pattern *regexp.Regexp, found chan<- string) string {
	var all bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(r, &all))
	lines.Buffer(nil, 1<<20)
	told := false
	for lines.Scan() {
		if m := pattern.FindStringSubmatch(lines.Text()); m != nil && !told {
			told = true
			found <- m[1]
		}
	}
	if !told {
		close(found)
	}
	_ = r.Close()
	return all.String()
}

// runDash runs dash in the script's environment.
func runDash(ts *testscript.TestScript, args []string) (stdout, stderr string, code int) {
	program, err := exec.LookPath("dash")
	ts.Check(err)
	cmd := exec.Command(program, args...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"HOME", "PATH", "TMPDIR", "DASH_URL", "DASH_API_KEY"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		ts.Fatalf("run dash: %v", err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// exitcode CODE dash args… checks a command's exit code; its output is what
// stdout and stderr look at.
func exitcode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[1] != "dash" {
		ts.Fatalf("usage: exitcode CODE dash args…")
	}
	stdout, stderr, code := runDash(ts, args[2:])
	// testscript's own stdout and stderr commands look at what it ran itself.
	ts.Check(os.WriteFile(ts.MkAbs("out"), []byte(stdout), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("err"), []byte(stderr), 0o600))
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("exit code %s, want %s\nstdout: %s\nstderr: %s", got, args[0], stdout, stderr)
	}
}

// eventually PATTERN dash args… repeats a command until its stdout matches.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[1] != "dash" {
		ts.Fatalf("usage: eventually PATTERN dash args…")
	}
	pattern := regexp.MustCompile(args[0])
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		stdout, stderr, _ := runDash(ts, args[2:])
		if pattern.MatchString(stdout) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no %s in\n%s%s", args[0], stdout, stderr)
		}
	}
}
