package openclawtest

import (
	"fmt"
	"time"
)

// method is one RPC: its scope, its parameters (see parseParams) and its handler,
// which runs under g.mu. A handler that answers by itself returns deferred.
type method struct {
	scope  string
	spec   string
	handle func(c *conn, id string, p params) (any, *rpcError)
	write  bool // a control-plane write: 30 per minute
}

type deferredAnswer struct{}

// deferred says that the handler answers by itself, now or later.
func deferred() (any, *rpcError) { return deferredAnswer{}, nil }

const (
	scopeRead    = "operator.read"
	scopeWrite   = "operator.write"
	scopeAdmin   = "operator.admin"
	scopePairing = "operator.pairing"

	agentSpec = "message*:s idempotencyKey*:s sessionKey:s sessionId:s agentId:s model:s provider:s thinking:s timeout:i extraSystemPrompt:s deliver:b attachments:a lane:s cwd:s promptMode:s modelRun:b to:s channel:s accountId:s replyTo:s label:s spawnedBy:s inputProvenance:o bestEffortDeliver:b"
	listSpec  = "limit:i offset:i activeOnly:b activeMinutes:i search:s label:s agentId:s archived:b sortBy:s includeLastMessage:b includeDerivedTitles:b includeGlobal:b includeUnknown:b spawnedBy:s"
)

func runMethod(name string) (method, bool) {
	switch name {
	case "agent":
		return method{scope: scopeWrite, spec: agentSpec, handle: (*conn).agent}, true
	case "agent.wait":
		return method{scope: scopeWrite, spec: "runId*:s timeoutMs:i", handle: (*conn).agentWait}, true
	case "chat.history":
		return method{scope: scopeRead, spec: "sessionKey*:s limit:i offset:i cursor:s messageId:s maxChars:i agentId:s", handle: (*conn).chatHistory}, true
	}
	return method{}, false
}

func sessionMethod(name string) (method, bool) {
	switch name {
	case "sessions.list":
		return method{scope: scopeRead, spec: listSpec, handle: (*conn).sessionsList}, true
	case "sessions.describe":
		return method{scope: scopeRead, spec: "key*:s includeDerivedTitles:b includeLastMessage:b", handle: (*conn).sessionsDescribe}, true
	case "sessions.delete":
		return method{scope: scopeAdmin, spec: "key*:s deleteTranscript:b expectedSessionId:s", handle: (*conn).sessionsDelete}, true
	case "sessions.abort":
		return method{scope: scopeWrite, spec: "key:s runId:s clearQueued:b agentId:s", handle: (*conn).sessionsAbort}, true
	}
	return method{}, false
}

func systemMethod(name string) (method, bool) {
	switch name {
	case "health":
		return method{spec: "probe:b", handle: (*conn).health}, true
	case "status":
		return method{scope: scopeRead, handle: (*conn).status}, true
	case "system.info":
		return method{scope: scopeRead, handle: (*conn).systemInfo}, true
	case "diagnostics.lanes":
		return method{scope: scopeRead, handle: (*conn).lanes}, true
	case "gateway.identity.get":
		return method{scope: scopeRead, handle: (*conn).identityGet}, true
	case "config.get":
		return method{scope: scopeRead, handle: (*conn).configGet}, true
	case "tasks.list":
		return method{scope: scopeRead, spec: "status:x limit:i cursor:s sessionKey:s runId:s", handle: (*conn).tasksList}, true
	case "gateway.suspend.prepare":
		return method{scope: scopeAdmin, spec: "requestId*:s drain:b terminalPolicy:s", handle: (*conn).suspendPrepare, write: true}, true
	case "gateway.suspend.status":
		return method{scope: scopeAdmin, spec: "suspensionId:s", handle: (*conn).suspendStatus}, true
	case "gateway.suspend.resume":
		return method{scope: scopeAdmin, spec: "suspensionId*:s", handle: (*conn).suspendResume}, true
	case "gateway.restart.preflight":
		return method{scope: scopeAdmin, handle: (*conn).restartPreflight}, true
	case "device.pair.list":
		return method{scope: scopePairing, handle: (*conn).pairList}, true
	case "device.pair.approve":
		return method{scope: scopePairing, spec: "requestId*:s", handle: (*conn).pairApprove}, true
	case "device.pair.reject":
		return method{scope: scopePairing, spec: "requestId*:s", handle: (*conn).pairReject}, true
	}
	return method{}, false
}

// listedMethods is features.methods.
func listedMethods() []string {
	return []string{"health", "status", "system.info", "diagnostics.lanes", "gateway.identity.get",
		"config.get", "tasks.list", "agent", "agent.wait", "chat.history",
		"sessions.list", "sessions.describe", "sessions.delete",
		"sessions.abort", "gateway.suspend.prepare", "gateway.suspend.status", "gateway.suspend.resume",
		"gateway.restart.preflight", "device.pair.list", "device.pair.approve", "device.pair.reject"}
}

func lookup(name string) (method, bool) {
	for _, find := range []func(string) (method, bool){runMethod, sessionMethod, systemMethod} {
		if m, ok := find(name); ok {
			return m, true
		}
	}
	return method{}, false
}

// dispatch answers one request. Callers hold g.mu.
func (c *conn) dispatch(req request) {
	payload, err := c.call(req)
	switch {
	case err != nil:
		c.send(errFrame(req.id, err))
	case payload != any(deferredAnswer{}):
		c.send(okFrame(req.id, payload))
	}
}

func (c *conn) call(req request) (any, *rpcError) {
	if req.method == "connect" {
		return nil, invalid("connect is only valid as the first request")
	}
	m, ok := lookup(req.method)
	if !ok {
		return nil, invalid("unknown method: " + req.method)
	}
	if !c.scopes.allows(m.scope) {
		return nil, &rpcError{Code: "FORBIDDEN", Message: "missing scope: " + m.scope,
			Details: map[string]any{"code": "MISSING_SCOPE", "missingScope": m.scope, "requiredScopes": []string{m.scope}}}
	}
	if err := c.g.gate(c.l, req.method); err != nil {
		return nil, err
	}
	p, err := parseParams(req.method, m.spec, req.params)
	if err != nil {
		return nil, err
	}
	if m.write {
		if err := c.limitWrites(req.method); err != nil {
			return nil, err
		}
	}
	return m.handle(c, req.id, p)
}

type writeWindow struct {
	since time.Time
	count int
}

func (c *conn) limitWrites(name string) *rpcError {
	if c.writes == nil {
		c.writes = map[string]*writeWindow{}
	}
	w := c.writes[name]
	if w == nil || time.Since(w.since) >= c.g.scaled(time.Minute) {
		w = &writeWindow{since: time.Now()}
		c.writes[name] = w
	}
	if w.count++; w.count <= 30 {
		return nil
	}
	left := c.g.scaled(time.Minute) - time.Since(w.since)
	return &rpcError{Code: "UNAVAILABLE", Message: fmt.Sprintf("rate limit exceeded for %s", name), Retryable: true,
		RetryAfterMs: int(max(left.Milliseconds(), 1)), Details: map[string]any{"method": name, "reason": "rate-limited"}}
}
