package testserver_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dash-fleet/dash/persistence/testserver"
)

// TestStoppedProcessesAreKilledToo: a stopped process does not notice that its
// parent is gone, so somebody has to end it.
func TestStoppedProcessesAreKilledToo(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testserver.PostgresServer, int) error{
		"by Kill": func(s *testserver.PostgresServer, _ int) error { return s.Kill() },
		"by Close after the first process was killed": func(s *testserver.PostgresServer, first int) error {
			if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
				return err
			}
			if left := ended([]int{first}); len(left) > 0 {
				return errors.New("the first process is left")
			}
			return s.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.NewPostgres(t, testserver.PostgresOptions{})
			connect(t, s.URL()) // a backend
			all := workingIn(t, s.Dir())
			if len(all) < 3 {
				t.Fatalf("processes %v, want the first, its helpers and a backend", all)
			}
			if err := s.Pause(); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(filepath.Join(s.Dir(), "postmaster.pid"))
			if err != nil {
				t.Fatal(err)
			}
			line, _, _ := strings.Cut(string(raw), "\n")
			first, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			if err := end(s, first); err != nil {
				t.Fatal(err)
			}
			if left := ended(all); len(left) > 0 {
				t.Fatalf("processes %v of %v are left", left, all)
			}
		})
	}
}

// workingIn lists the processes whose working folder it is.
func workingIn(t *testing.T, dir string) []int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == dir {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// ended waits until all have ended, and lists those that have not after 10 s.
func ended(pids []int) []int {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if left := alive(pids); len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// alive lists those that have not ended.
func alive(pids []int) []int {
	var left []int
	for _, pid := range pids {
		raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if err == nil && !bytes.Contains(raw, []byte("State:\tZ")) {
			left = append(left, pid)
		}
	}
	return left
}
