package harness

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/dash-fleet/dash/soak/judge"
)

// SaveHistory writes a history, so that a finding can be looked into later.
func SaveHistory(path string, h *judge.History) error {
	data, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}
