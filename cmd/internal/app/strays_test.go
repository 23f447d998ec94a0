package app

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dash-fleet/dash/actors/openclaw/launcher"
	"github.com/dash-fleet/dash/messages"
)

// TestStrayIsStopped: its home stops the process of a gateway that has another
// home by now, and leaves one that it keeps, or that the store never knew.
func TestStrayIsStopped(t *testing.T) {
	t.Parallel()
	cfg, data := onPostgres(t), t.TempDir()
	sleep := must(exec.LookPath("sleep"))(t)
	// Processes that an earlier life of this home has left running.
	l := must(launcher.New(launcher.Config{Dir: data, Command: []string{sleep, "600"}, BootSlots: 3}))(t)
	pids := map[string]int{}
	for _, id := range []string{"moved", "kept", "unknown"} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _, _ = l.Ensure(ctx, launcher.Spec{ID: id}) }() // it never gets ready
		eventually(t, "the process of "+id, func() bool {
			var record struct{ PID int }
			text, err := os.ReadFile(filepath.Join(data, "gateways", id, "launch.json"))
			if err == nil && json.Unmarshal(text, &record) == nil {
				pids[id] = record.PID
			}
			return pids[id] != 0
		})
		cancel()
		<-done
	}
	l.Close()
	alive := func(id string) bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pids[id]))
		return err == nil && !strings.Contains(string(stat), ") Z ") // a child of the test is nobody's to reap
	}
	n := must(startNode(t, cfg, "a", data))(t)
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = n.Stop()
	})
	for id, home := range map[string]string{"kept": n.home.ID, "moved": "01990000-0000-7000-8000-000000000000"} {
		must(n.repos.Gateways.Create(t.Context(), messages.Gateway{ID: id, Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, Node: "a", Home: home,
			Managed: &messages.Managed{}, MaxConcurrency: 1, Weight: 1, CreatedAt: messages.Now()}))(t)
	}
	if err := n.strays.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if alive("moved") || !alive("kept") || !alive("unknown") {
		t.Errorf("alive: moved %t, kept %t, unknown %t", alive("moved"), alive("kept"), alive("unknown"))
	}
}
