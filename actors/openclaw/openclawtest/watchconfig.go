package openclawtest

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// lookAtConfig is how soon a change of the file is seen; scaled.
const lookAtConfig = time.Second

// parseConfig reads a configuration file as a gateway would.
func parseConfig(raw []byte) seen {
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return seen{raw: raw, issues: []map[string]string{{"path": "", "message": err.Error()}}}
	}
	issues := configIssues(tree)
	if _, ok := laneLimit(tree); !ok {
		issues = append(issues, map[string]string{"path": "agents.defaults.maxConcurrent", "message": "expected integer >=1"})
	}
	if len(issues) > 0 {
		return seen{raw: raw, issues: issues}
	}
	return seen{raw: raw, tree: tree}
}

// bootConfig begins a life with what the file says, and watches it.
func (g *Gateway) bootConfig(l *life) {
	if g.cfg.ConfigPath == "" {
		return
	}
	raw, err := os.ReadFile(g.cfg.ConfigPath)
	if err != nil {
		err = g.config.write(g.config.tree, true)
	} else if file := parseConfig(raw); file.tree != nil {
		g.config.file = file
		g.applyConfig(file.tree)
	}
	if err != nil {
		g.cfg.Logger.Error("simulated gateway has no configuration file", "gateway", g.cfg.Name, "err", err)
	}
	g.watchConfig(l)
}

func (g *Gateway) watchConfig(l *life) {
	g.after(l, g.scaledMin(lookAtConfig, 20*time.Millisecond), func() {
		if raw, err := os.ReadFile(g.cfg.ConfigPath); err == nil && !bytes.Equal(raw, g.config.file.raw) {
			g.sawConfig(l, parseConfig(raw))
		}
		g.watchConfig(l)
	})
}

// sawConfig takes a changed file: what it can while it runs, at once; what needs
// another life, when its runs have ended. One that is not valid changes nothing.
func (g *Gateway) sawConfig(l *life, file seen) {
	if file.tree == nil {
		g.cfg.Logger.Warn("config reload skipped (invalid config)", "gateway", g.cfg.Name, "issue", file.issues[0]["message"])
		if !g.is2026x8() { // which goes on telling of the file before
			g.config.file = file
		}
		return
	}
	g.config.file = file
	changed := slices.Concat(difference(g.config.tree, file.tree, ""), difference(file.tree, g.config.tree, ""))
	if i := slices.IndexFunc(changed, g.needsRestart); i >= 0 {
		g.cfg.Logger.Info("config change requires gateway restart", "gateway", g.cfg.Name, "path", changed[i])
		if l.drain == nil {
			g.beginDrain(l, &drain{restart: true, back: true, down: g.scaled(8 * time.Second)})
		}
		return
	}
	g.applyConfig(file.tree)
	if len(changed) > 0 {
		g.emit(l, "config.changed", map[string]any{"path": g.config.path, "hash": g.config.hash()})
	}
	g.pump(l)
}

func (g *Gateway) applyConfig(tree map[string]any) {
	g.config.tree = tree
	if limit, _ := laneLimit(tree); limit > 0 {
		g.limit = limit
	}
}

// needsRestart as the gateway's own table of paths says; the longest match counts.
func (g *Gateway) needsRestart(path string) bool {
	hot := []string{"gateway.http.endpoints", "gateway.auth.rateLimit", "gateway.tools", "gateway.reload", "discovery.mdns.mode"}
	if g.is2026x8() {
		hot = []string{"gateway.reload"}
	}
	under := func(prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+".") }
	if slices.ContainsFunc(hot, under) {
		return false
	}
	return slices.ContainsFunc([]string{"env", "gateway", "discovery", "browser"}, under)
}

// difference lists the leaves of b that are not so in a.
func difference(a, b map[string]any, at string) (changed []string) {
	for _, k := range slices.Sorted(maps.Keys(b)) {
		path := strings.TrimPrefix(at+"."+k, ".")
		old, had := a[k]
		if sub, isMap := b[k].(map[string]any); isMap {
			oldMap, _ := old.(map[string]any)
			changed = append(changed, difference(oldMap, sub, path)...)
		} else if !had && b[k] != nil || had && string(encode(old)) != string(encode(b[k])) {
			changed = append(changed, path)
		}
	}
	return changed
}
