package adaptertest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/coder/websocket"

	"github.com/dash-fleet/dash/actors/openclaw"
)

func testHello(b *bench) {
	c1, _ := b.dial()
	c2, _ := b.dial()
	h, h2 := c1.Hello(), c2.Hello()
	if h.Protocol != 4 || h.Version != b.Version || h.BootID == "" || h.ConnID == "" {
		b.Errorf("hello: protocol %d, version %q, boot %q, conn %q", h.Protocol, h.Version, h.BootID, h.ConnID)
	}
	if h.BootID != h2.BootID || h.ConnID == h2.ConnID {
		b.Errorf("two connections: boot ids %q %q (want equal), connection ids %q %q (want different)", h.BootID, h2.BootID, h.ConnID, h2.ConnID)
	}
	for _, s := range []string{"operator.read", "operator.write", "operator.admin", "operator.approvals"} {
		if !slices.Contains(h.Scopes, s) {
			b.Errorf("scope %s was not granted: %v", s, h.Scopes)
		}
	}
	for _, m := range []string{"agent", "agent.wait", "chat.history", "sessions.list", "sessions.describe", "sessions.abort", "sessions.delete"} {
		if !h.Lists(m) {
			b.Errorf("method %s is not listed", m)
		}
	}
	if h.Policy.MaxPayload != 25<<20 || h.Policy.TickInterval <= 0 {
		b.Errorf("policy %+v", h.Policy)
	}
}

// variant is one way to connect by hand.
type variant struct {
	name   string
	edit   func(params map[string]any)
	header http.Header
	first  string // sent in place of connect

	code, detail string // of the error; empty code: let in
	close        int    // close code after the error
	noScopes     bool   // let in without scopes
}

func testConnectRules(b *bench) {
	client := func(p map[string]any) map[string]any { return p["client"].(map[string]any) }
	for _, v := range []variant{
		{name: "as we do", edit: func(map[string]any) {}},
		{name: "no scopes asked", edit: func(p map[string]any) { delete(p, "scopes") }, noScopes: true},
		{name: "mode probe", edit: func(p map[string]any) { client(p)["id"], client(p)["mode"] = "openclaw-probe", "probe" }, noScopes: true},
		{name: "unknown client id", edit: func(p map[string]any) { client(p)["id"] = "dash" }, code: "INVALID_REQUEST", close: 1008},
		{name: "unknown mode", edit: func(p map[string]any) { client(p)["mode"] = "operator" }, code: "INVALID_REQUEST", close: 1008},
		{name: "unknown key", edit: func(p map[string]any) { p["surprise"] = 1 }, code: "INVALID_REQUEST", close: 1008},
		{name: "wrong token", edit: func(p map[string]any) { p["auth"] = map[string]any{"token": "wrong"} }, code: "INVALID_REQUEST", detail: "AUTH_TOKEN_MISMATCH", close: 1008},
		{name: "no auth", edit: func(p map[string]any) { delete(p, "auth") }, code: "NOT_PAIRED", detail: "DEVICE_IDENTITY_REQUIRED", close: 1008},
		{name: "protocol 3 only", edit: func(p map[string]any) { p["maxProtocol"] = 3 }, code: "INVALID_REQUEST", detail: "PROTOCOL_MISMATCH", close: 1002},
		{name: "origin header", edit: func(map[string]any) {}, header: http.Header{"Origin": {"https://example.org"}}, code: "INVALID_REQUEST", detail: "CONTROL_UI_ORIGIN_NOT_ALLOWED", close: 1008},
		{name: "not connect first", first: `{"type":"req","id":"1","method":"health","params":{}}`, code: "INVALID_REQUEST", close: 1008},
	} {
		b.sub(v.name, func(b *bench) { b.connectBy(v) })
	}
}

// connectBy shakes hands by hand and checks the outcome.
func (b *bench) connectBy(v variant) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, b.URL, &websocket.DialOptions{HTTPHeader: v.header})
	b.ok("open", err)
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(4 << 20)
	first := v.first
	if first == "" {
		first = b.connectFrame(v.edit)
	}
	b.ok("write", ws.Write(ctx, websocket.MessageText, []byte(first)))
	var res struct {
		OK      bool `json:"ok"`
		Payload struct {
			Auth struct {
				Scopes []string `json:"scopes"`
			} `json:"auth"`
		} `json:"payload"`
		Error struct {
			Code    string `json:"code"`
			Details struct {
				Code string `json:"code"`
			} `json:"details"`
		} `json:"error"`
	}
	b.answer(ctx, ws, &res)
	if v.code == "" {
		if !res.OK || (len(res.Payload.Auth.Scopes) == 0) != v.noScopes {
			b.Fatalf("ok %v, scopes %v; want in, no scopes: %v", res.OK, res.Payload.Auth.Scopes, v.noScopes)
		}
		if v.noScopes {
			b.refusedScope(ctx, ws)
		}
		return
	}
	if res.OK || res.Error.Code != v.code || (v.detail != "" && res.Error.Details.Code != v.detail) {
		b.Errorf("ok %v, error %s/%s; want %s/%s", res.OK, res.Error.Code, res.Error.Details.Code, v.code, v.detail)
	}
	for err == nil {
		_, _, err = ws.Read(ctx)
	}
	if got := websocket.CloseStatus(err); int(got) != v.close {
		b.Errorf("close %d (%v), want %d", got, err, v.close)
	}
}

func (b *bench) connectFrame(edit func(map[string]any)) string {
	params := map[string]any{
		"minProtocol": 3, "maxProtocol": 4, "role": "operator",
		"client": map[string]any{"id": "gateway-client", "version": "0.1.0", "platform": "linux", "mode": "backend"},
		"scopes": []string{"operator.read", "operator.write"},
		"auth":   map[string]any{"token": b.Token.Reveal()},
	}
	edit(params)
	frame, err := json.Marshal(map[string]any{"type": "req", "id": "1", "method": "connect", "params": params})
	b.ok("encode", err)
	return string(frame)
}

// answer reads the next response.
func (b *bench) answer(ctx context.Context, ws *websocket.Conn, into any) {
	b.Helper()
	for {
		_, data, err := ws.Read(ctx)
		b.ok("read", err)
		var kind struct {
			Type string `json:"type"`
		}
		b.ok("decode", json.Unmarshal(data, &kind))
		if kind.Type == "res" {
			b.ok("decode", json.Unmarshal(data, into))
			return
		}
	}
}

func (b *bench) refusedScope(ctx context.Context, ws *websocket.Conn) {
	req := `{"type":"req","id":"2","method":"sessions.list","params":{"limit":1}}`
	b.ok("write", ws.Write(ctx, websocket.MessageText, []byte(req)))
	var res struct {
		OK    bool `json:"ok"`
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	b.answer(ctx, ws, &res)
	if res.OK || res.Error.Code != "FORBIDDEN" || res.Error.Message != "missing scope: operator.read" {
		b.Errorf("a call without scopes: ok %v, %s %q", res.OK, res.Error.Code, res.Error.Message)
	}
}

func testWrongToken(b *bench) {
	cfg := b.config()
	cfg.Token = "not-the-token-of-this-gateway"
	c, err := openclaw.Dial(b.ctx, cfg, nil)
	if err == nil {
		c.Close()
		b.Fatal("let in with a wrong token")
	}
	var r *openclaw.RefusedError
	if !errors.As(err, &r) || r.Reason != openclaw.ReasonToken || !r.Permanent || r.NextStep == "" {
		b.Errorf("refusal %+v, want a permanent one for the token", err)
	}
}

func testCallErrors(b *bench) {
	c, _ := b.dial()
	var rpc *openclaw.RPCError
	err := c.Call(b.ctx, "no.such.method", nil, nil)
	if !errors.As(err, &rpc) || !rpc.UnknownMethod() {
		b.Errorf("unknown method: %v", err)
	}
	err = c.Call(b.ctx, "agent", map[string]any{}, nil)
	if !errors.As(err, &rpc) || rpc.Code != "INVALID_REQUEST" || rpc.UnknownMethod() {
		b.Errorf("agent without params: %v", err)
	}
	err = c.Call(b.ctx, "agent", map[string]any{"message": "x", "idempotencyKey": runID(), "sessionKey": b.session(), "surprise": 1}, nil)
	if !errors.As(err, &rpc) || rpc.Code != "INVALID_REQUEST" {
		b.Errorf("agent with an unknown key: %v", err)
	}
}

func testLoad(b *bench) {
	c, _ := b.dial()
	if _, err := c.Health(b.ctx); err != nil {
		b.Errorf("health: %v", err)
	}
	info, err := c.SystemInfo(b.ctx)
	b.ok("system info", err)
	if info.PID <= 0 || info.Uptime <= 0 { // 2026.8.2 tells nothing about memory and event loop here
		b.Errorf("system info %+v", info)
	}
	id, err := c.Identity(b.ctx)
	b.ok("identity", err)
	if len(id) != 64 {
		b.Errorf("device id %q, want 64 hex digits", id)
	}
	// An aborted turn of an earlier part may still be on its way out.
	b.until("an idle gateway may be restarted", patience, func() bool {
		safe, err := c.RestartPreflight(b.ctx)
		b.ok("restart preflight", err)
		return safe
	})
	lane := b.mainLane(c)
	if lane.MaxConcurrent != b.MaxConcurrent || lane.Active != 0 || lane.Queued != 0 {
		b.Errorf("idle main lane %+v, want limit %d", lane, b.MaxConcurrent)
	}
}

func (b *bench) mainLane(c *openclaw.Conn) openclaw.Lane {
	b.Helper()
	lanes, err := c.Lanes(b.ctx)
	b.ok("lanes", err)
	for _, l := range lanes {
		if l.Name == openclaw.MainLane {
			return l
		}
	}
	b.Fatalf("no main lane in %+v", lanes)
	panic("unreachable")
}

// wait asks for the state of a run now.
func (b *bench) wait(c *openclaw.Conn, id string) openclaw.RunStatus {
	b.Helper()
	s, err := c.Wait(b.ctx, id, 10*time.Millisecond)
	b.ok("agent.wait", err)
	return s
}
