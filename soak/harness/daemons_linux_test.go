package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestDaemonsAreTheNodesOwn: a pid of the folder that another process has by now
// is no daemon; what Daemons tells is killed.
func TestDaemonsAreTheNodesOwn(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "60")
	cmd.Env = []string{"DASH_LAUNCH_ID=abc"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	data := t.TempDir()
	for name, record := range map[string]string{
		"own":      fmt.Sprintf(`{"pid":%d,"launch_id":"abc"}`, cmd.Process.Pid),
		"recycled": fmt.Sprintf(`{"pid":%d,"launch_id":"def"}`, os.Getpid()),
		"nobody":   `{"pid":0,"launch_id":""}`,
	} {
		dir := filepath.Join(data, "gateways", name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "launch.json"), []byte(record), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := Daemons(data); !slices.Equal(got, []int{cmd.Process.Pid}) {
		t.Errorf("daemons %v, want %d", got, cmd.Process.Pid)
	}
}
