package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStalledLogStopsNothing: the reader of stdout and stderr reads until the
// node is ready and then never again, as a hanging log collector does. Requests
// are still answered, what is lost is counted, and SIGTERM ends the node.
func TestStalledLogStopsNothing(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	cmd := drillCommand(t.Context(), t, "serve", "--data", data, "--listen", "127.0.0.1:0", "--sim-gateways", "2", "--log-level", "debug", "--metrics-public")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // fails when it was ended as it should be
	url := readUntilReady(t, read)
	fill(t, write)
	key, err := os.ReadFile(filepath.Join(data, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	n := &drillNode{url: url, key: strings.TrimSpace(string(key))}

	var task drillTask
	// A gateway that refuses connections has something to log at every attempt.
	code, err := n.call(t.Context(), http.MethodPost, "/api/v1/gateways", `{"id":"dead","url":"ws://127.0.0.1:1","token":"x"}`, &struct{}{})
	if err != nil || code != http.StatusCreated {
		t.Fatalf("add a gateway beside a stalled log: %d %v", code, err)
	}
	for i := range 50 {
		code, err := n.call(t.Context(), http.MethodPost, "/api/v1/tasks", `{"priority":"high","input":{"message":"Say hello."}}`, &task)
		if err != nil || code != http.StatusAccepted {
			t.Fatalf("submit %d beside a stalled log: %d %v", i, code, err)
		}
	}
	drillUntil(t, "a task beside a stalled log succeeds", func() bool {
		code, err := n.call(t.Context(), http.MethodGet, "/api/v1/tasks/"+task.ID, "", &task)
		return err == nil && code == http.StatusOK && task.State == "succeeded"
	})

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the node ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("SIGTERM has no effect beside a stalled log")
	}
}

// fill writes into a pipe until it is full. It does so through an opening of
// its own: whether a write waits is a property of the opening, which the node
// would share.
func fill(t *testing.T, pipe *os.File) {
	t.Helper()
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", pipe.Fd()), unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_ = pipe.Close()
	for _, chunk := range [][]byte{make([]byte, 4096), make([]byte, 1)} {
		for err = nil; err == nil; _, err = unix.Write(fd, chunk) {
		}
		if !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
	}
}

// readUntilReady reads the output up to the banner's line, byte by byte: what
// comes after it stays in the pipe.
func readUntilReady(t *testing.T, r *os.File) string {
	t.Helper()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var all []byte
	for one := make([]byte, 1); ; {
		if _, err := r.Read(one); err != nil {
			t.Fatalf("the node did not start: %v\n%s", err, all)
		}
		all = append(all, one[0])
		if m := drillReady.FindSubmatch(all); m != nil && one[0] == '\n' {
			return string(m[1])
		}
	}
}

// TestStopIsQuiet: Ctrl-C on a playground is no trouble, and nothing is said as if it were.
func TestStopIsQuiet(t *testing.T) {
	t.Parallel()
	cmd := drillCommand(t.Context(), t, "serve", "--dev", "--listen", "127.0.0.1:0")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // fails when it was ended as it should be
	_ = write.Close()
	url := readUntilReady(t, read)
	rest := make(chan []byte, 1)
	go func() {
		defer read.Close()
		_ = read.SetReadDeadline(time.Time{})
		all, _ := io.ReadAll(read) // up to the end of the node
		rest <- all
	}()
	drillUntil(t, "the simulated gateways are ready", func() bool {
		resp, err := http.Get(url + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(raw), `dash_gateways{state="ready"} 3`)
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	said := string(<-rest)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the node ended with %v", err)
	}
	_, end, stopped := strings.Cut(said, `"stopping"`)
	if !stopped || strings.Contains(end, "unreachable") || strings.Contains(end, "EOF") {
		t.Errorf("after Ctrl-C:\n%s", end)
	}
	if terminal, curl := strings.Index(said, "in another terminal"), strings.Index(said, "curl -s"); terminal < 0 || curl < terminal {
		t.Errorf("the banner says after the line that needs it that it is for another terminal:\n%s", said)
	}
}
