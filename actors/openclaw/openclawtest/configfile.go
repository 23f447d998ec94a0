package openclawtest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// configFile is the configuration a gateway reports and takes patches for.
type configFile struct {
	path string
	tree map[string]any // what the gateway runs with
	file seen
}

// seen is the configuration file as it was seen last.
type seen struct {
	raw    []byte
	tree   map[string]any      // nil: not valid
	issues []map[string]string // why it is not
}

// write makes tree the configuration, in the file too where there is one.
func (f *configFile) write(tree map[string]any, save bool) error {
	raw := encode(tree)
	if save {
		tmp := f.path + ".new"
		if err := os.WriteFile(tmp, raw, 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		if err := os.Rename(tmp, f.path); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	f.tree, f.file = tree, seen{raw: raw, tree: tree}
	return nil
}

const redacted = "__OPENCLAW_REDACTED__"

func newConfigFile(cfg Config) *configFile {
	tree := map[string]any{
		"gateway": map[string]any{"mode": "local", "bind": "loopback", "auth": map[string]any{"mode": "token", "token": cfg.Token}},
		"agents": map[string]any{"defaults": map[string]any{
			"model": map[string]any{"primary": "fake/fake-1"}, "maxConcurrent": float64(cfg.MaxConcurrent)}},
		"plugins": map[string]any{"enabled": false},
	}
	return &configFile{path: cmp.Or(cfg.ConfigPath, cfg.StateDir+"/openclaw.json"), tree: tree, file: seen{raw: encode(tree), tree: tree}}
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// hash is that of the file's bytes, which a write must name.
func (f *configFile) hash() string { return hashOf(f.file.raw) }

// revision is that of what a configuration says.
func revision(tree map[string]any) string { return "hmac-sha256:v1:" + hashOf(encode(tree)) }

// shown is the tree with its secrets hidden.
func shown(v any) any {
	tree, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := make(map[string]any, len(tree))
	for k, x := range tree {
		switch strings.ToLower(k) {
		case "token", "apikey", "password", "secret":
			out[k] = redacted
		default:
			out[k] = shown(x)
		}
	}
	return out
}

func (c *conn) configGet(string, params) (any, *rpcError) {
	f := c.g.config
	tree := shown(f.file.tree)
	raw := string(encode(tree))
	out := map[string]any{"path": f.path, "exists": true, "raw": raw, "parsed": tree, "config": tree, "hash": f.hash(),
		"configRevisionHash": revision(f.file.tree), "appliedConfigHash": revision(f.tree), "valid": true, "issues": []any{}}
	if f.file.tree == nil {
		out["valid"], out["issues"], out["configRevisionHash"] = false, f.file.issues, nil
	}
	return out, nil
}

// laneLimit is agents.defaults.maxConcurrent, 0 when not set; ok is false for nonsense.
func laneLimit(tree map[string]any) (limit int, ok bool) {
	agents, _ := tree["agents"].(map[string]any)
	defaults, _ := agents["defaults"].(map[string]any)
	v, set := defaults["maxConcurrent"]
	if !set {
		return 0, true
	}
	n, isNumber := v.(float64)
	if !isNumber || n < 1 || n > 100_000 || n != float64(int(n)) {
		return 0, false
	}
	return int(n), true
}

const (
	topKeys     = " acp agents approvals audio auth bindings broadcast browser canvasHost channels commands cron diagnostics discovery env gateway hooks logging media memory messages meta models nodeHost plugins secrets session sessions skills talk tools ui update web wizard "
	gatewayKeys = " mode bind port customBindHost auth controlUi http nodes reload remote tailscale tls trustedProxies push tools handshakeTimeoutMs "
)

// configIssues names every key a gateway of this version would refuse.
func configIssues(tree map[string]any) []map[string]string {
	issues := []map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(tree)) {
		if !strings.Contains(topKeys, " "+k+" ") {
			issues = append(issues, map[string]string{"path": k, "message": "Unrecognized key: " + k})
		}
	}
	gw, isMap := tree["gateway"].(map[string]any)
	if tree["gateway"] != nil && !isMap {
		return append(issues, map[string]string{"path": "gateway", "message": "expected object"})
	}
	for _, k := range slices.Sorted(maps.Keys(gw)) {
		if !strings.Contains(gatewayKeys, " "+k+" ") {
			issues = append(issues, map[string]string{"path": "gateway." + k, "message": "Unrecognized key: " + k})
		}
	}
	return issues
}
