package harness

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// Daemons are the pids of the gateway daemons that a node started, as its data
// folder tells. Some may have ended.
func Daemons(data string) (pids []int) {
	files, _ := filepath.Glob(filepath.Join(data, "gateways", "*", "launch.json")) // the pattern is well formed
	for _, f := range files {
		var record struct {
			PID int `json:"pid"`
		}
		raw, err := os.ReadFile(f)
		if err == nil && json.Unmarshal(raw, &record) == nil && record.PID > 0 {
			pids = append(pids, record.PID)
		}
	}
	return pids
}
