package requests

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/dash-fleet/dash/messages"
)

// recordedGateway shows what runs, and of a secret only that there is one.
func recordedGateway(g messages.Gateway) map[string]any {
	fields := map[string]any{
		"tenant": g.Tenant, "pool": g.Pool, "node": g.Node, "region": g.Region, "url": g.URL, "token": !g.Token.Empty(), "max_concurrency": g.MaxConcurrency,
		"weight": g.Weight, "capabilities": g.Capabilities, "labels": g.Labels, "drained": g.Drained,
	}
	if m := g.Managed; m != nil { // each on its own, so that a long one hides no other
		maps.Copy(fields, map[string]any{
			"managed_command": m.Command, "managed_port": m.Port, "managed_state_dir": m.StateDir,
			"managed_env": slices.Sorted(maps.Keys(m.Env)), "managed_config_sha256": digest(m.Config),
		})
	}
	return fields
}

// digest tells one configuration from another; empty for none.
func digest(config map[string]any) string {
	raw, err := json.Marshal(config)
	if err != nil || len(config) == 0 {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(raw))
}

func recordedPool(p messages.Pool) map[string]any {
	limits, reserved := map[string]messages.ClassLimit{}, map[string]int{}
	for _, c := range messages.Classes {
		limits[c.String()], reserved[c.String()] = p.Limit(c), p.Reserved[c]
	}
	return map[string]any{
		"tenant": p.Tenant, "max_concurrency": p.MaxConcurrency, "limits": limits, "reserved": reserved,
		"aging_seconds": p.AgingSeconds, "away_seconds": int(p.Away().Seconds()),
	}
}
