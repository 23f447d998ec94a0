package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Daemons are the pids of the gateway daemons that a node started and that still
// live, as its data folder tells. A pid that belongs to another process by now is
// none of them: they are killed.
func Daemons(data string) (pids []int) {
	files, _ := filepath.Glob(filepath.Join(data, "gateways", "*", "launch.json")) // the pattern is well formed
	for _, f := range files {
		var record struct {
			PID      int    `json:"pid"`
			LaunchID string `json:"launch_id"`
		}
		raw, err := os.ReadFile(f)
		if err != nil || json.Unmarshal(raw, &record) != nil || record.PID <= 0 || record.LaunchID == "" {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", record.PID))
		if err == nil && bytes.Contains(env, []byte("DASH_LAUNCH_ID="+record.LaunchID)) {
			pids = append(pids, record.PID)
		}
	}
	return pids
}
