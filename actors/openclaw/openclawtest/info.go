package openclawtest

import (
	"os"
	"runtime"
	"slices"
	"time"
)

func (g *Gateway) uptimeMs() int64 {
	// An in-process restart does not reset it, which is why clients must not rely on it.
	return time.Since(g.born).Milliseconds()
}

func (g *Gateway) eventLoop() map[string]any {
	delay := g.faults.EventLoopDelayMS
	if delay == 0 {
		delay = 12.5
	}
	return map[string]any{"degraded": delay >= 250, "delayP99Ms": delay, "utilization": min(delay/1000+0.1, 1), "cpuCoreRatio": 0.2}
}

func (g *Gateway) healthPayload(*life) map[string]any {
	return map[string]any{
		"ok": true, "ts": nowMs(), "durationMs": 1,
		"plugins": map[string]any{"loaded": []string{}, "errors": []string{}}, "channels": map[string]any{},
		"defaultAgentId": "main", "agents": []map[string]any{{"agentId": "main", "isDefault": true}},
		"sessions":     map[string]any{"path": g.cfg.StateDir, "count": len(g.store.sessions), "recent": []any{}},
		"modelRuntime": map[string]any{"degraded": false, "pendingAgents": []string{}},
		"eventLoop":    g.eventLoop(),
	}
}

func (c *conn) health(string, params) (any, *rpcError) { return c.g.healthPayload(c.l), nil }

func (c *conn) status(string, params) (any, *rpcError) {
	g := c.g
	byStatus := map[string]int{}
	for _, t := range g.store.tasks {
		byStatus[t.Status]++
	}
	return map[string]any{
		"runtimeVersion": g.cfg.Version,
		"tasks":          map[string]any{"total": len(g.store.tasks), "active": byStatus["running"], "byStatus": byStatus},
		"sessions":       map[string]any{"count": len(g.store.sessions), "recent": []any{}},
		"processMemory":  processMemory(), "eventLoop": g.eventLoop(),
		"shutdownBudget": map[string]any{"drainMs": g.scaled(315 * time.Second).Milliseconds()},
	}, nil
}

// processMemory is what a real gateway uses after its first turns; the simulator's own use would mislead.
func processMemory() map[string]int {
	return map[string]int{"rssBytes": 1_130_000_000, "heapUsedBytes": 265_000_000, "heapTotalBytes": 320_000_000, "externalBytes": 12_000_000}
}

func (c *conn) systemInfo(string, params) (any, *rpcError) {
	g := c.g
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return map[string]any{
		"hostname": host, "pid": os.Getpid(), "processInstanceId": c.l.boot, "port": portOf(g.addr), "uptimeMs": g.uptimeMs(),
		"cpuCount": runtime.NumCPU(), "loadAverage": []float64{0.5, 0.5, 0.5}, "memoryTotalBytes": 25_769_803_776, "memoryFreeBytes": 12_884_901_888,
		"processMemory": processMemory(), "eventLoop": g.eventLoop(), "disks": []any{},
	}, nil
}

func (g *Gateway) presence(l *life) []map[string]any {
	return []map[string]any{{"host": "sim", "ip": "127.0.0.1", "version": g.cfg.Version, "platform": "linux", "mode": "gateway", "reason": "self", "instanceId": l.boot, "ts": nowMs()}}
}

func (c *conn) lanes(string, params) (any, *rpcError) {
	l := c.l
	lane := map[string]any{"lane": "main", "activeCount": l.active, "queuedCount": len(l.lane), "maxConcurrent": c.g.limit, "draining": l.drain != nil, "blockedBy": nil}
	return map[string]any{"ts": nowMs(), "lanes": []any{lane}, "dynamic": []any{}}, nil
}

func (c *conn) identityGet(string, params) (any, *rpcError) {
	id, key := c.g.identity()
	return map[string]string{"deviceId": id, "publicKey": key}, nil
}

func (c *conn) tasksList(_ string, p params) (any, *rpcError) {
	limit := p.integer("limit", 100)
	rows := []map[string]any{}
	for _, t := range slices.Backward(c.g.store.tasks) {
		if len(rows) >= limit {
			break
		}
		if p.has("status") && string(p["status"]) != `"`+t.Status+`"` {
			continue
		}
		if key := p.str("sessionKey"); key != "" && t.Key != key {
			continue
		}
		if id := p.str("runId"); id != "" && t.RunID != id {
			continue
		}
		rows = append(rows, t.wire())
	}
	return map[string]any{"tasks": rows}, nil
}
