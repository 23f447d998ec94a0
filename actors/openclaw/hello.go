package openclaw

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/dash-fleet/dash/messages/next"
)

// Scopes are what Dash asks for and needs.
var scopesWanted = [...]string{"operator.read", "operator.write", "operator.admin", "operator.approvals"}

// requiredMethods are those without which no task can be run safely, with
// parameters that prove presence and change nothing. They are tried only if
// hello does not list them: its list is incomplete in every version.
var requiredMethods = [...]struct {
	name   string
	params string
}{
	{"agent", `{}`},
	{"agent.wait", `{}`},
	{"chat.history", `{}`},
	{"sessions.list", `{"limit":1}`},
	{"sessions.describe", `{}`},
	{"sessions.abort", `{"runId":"dash-method-check"}`},
	{"sessions.delete", `{}`},
}

// Hello is what a gateway says about itself at the handshake. It is checked:
// protocol 4, boot id present, all scopes granted.
type Hello struct {
	Protocol int
	Version  string
	BuildID  string
	// BootID is new with every start of the gateway process, in-process
	// restarts included: it fences what an earlier life promised.
	BootID string
	ConnID string
	Scopes []string
	// Uptime at the handshake. An in-process restart does not reset it.
	Uptime time.Duration
	// Suspension is the phase: accepting, preparing, draining, prepared; empty
	// before 2026.9.
	Suspension string
	Policy     Policy

	methods map[string]struct{}
	events  map[string]bool
}

// Policy are the gateway's limits for this connection.
type Policy struct {
	MaxPayload       int64 // largest frame it takes, bytes
	MaxBufferedBytes int64
	TickInterval     time.Duration
}

// Lists reports whether the gateway listed the method. True proves presence,
// false proves nothing: only an unknown-method answer proves absence.
func (h *Hello) Lists(method string) bool {
	_, ok := h.methods[method]
	return ok
}

const (
	maxListed    = 4096
	maxScopes    = 64
	maxShortText = 200
	maxTick      = time.Minute // believed: a longer one would hide a dead link
	minPayload   = 64 << 10
)

type helloWire struct {
	Type     string `json:"type"`
	Protocol int    `json:"protocol"`
	Server   struct {
		Version string `json:"version"`
		BuildID string `json:"buildId"`
		BootID  string `json:"bootId"`
		ConnID  string `json:"connId"`
	} `json:"server"`
	Features struct {
		Methods json.RawMessage `json:"methods"`
		Events  json.RawMessage `json:"events"`
	} `json:"features"`
	Snapshot struct {
		UptimeMs   float64 `json:"uptimeMs"`
		Suspension struct {
			Phase string `json:"phase"`
		} `json:"suspension"`
	} `json:"snapshot"`
	Auth struct {
		Scopes json.RawMessage `json:"scopes"`
	} `json:"auth"`
	Policy struct {
		MaxPayload       float64 `json:"maxPayload"`
		MaxBufferedBytes float64 `json:"maxBufferedBytes"`
		TickIntervalMs   float64 `json:"tickIntervalMs"`
	} `json:"policy"`
}

// decodeHello reads a hello-ok payload; limits are clamped to sane values.
func decodeHello(b []byte) (*Hello, error) {
	if !isObject(b) {
		return nil, errNoPayload
	}
	var w helloWire
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	methods, err := names(w.Features.Methods, maxListed, "methods")
	if err != nil {
		return nil, err
	}
	events, err := names(w.Features.Events, maxListed, "events")
	if err != nil {
		return nil, err
	}
	scopes, err := names(w.Auth.Scopes, maxScopes, "scopes")
	if err != nil {
		return nil, err
	}
	h := &Hello{
		Scopes:     scopes,
		Protocol:   w.Protocol,
		Version:    clean(w.Server.Version, 64),
		BuildID:    clean(w.Server.BuildID, maxShortText),
		BootID:     clean(w.Server.BootID, maxShortText),
		ConnID:     clean(w.Server.ConnID, maxShortText),
		Suspension: clean(w.Snapshot.Suspension.Phase, 32),
		Uptime:     floatMillis(w.Snapshot.UptimeMs, 100*365*24*time.Hour),
		Policy: Policy{
			MaxPayload:       DefaultMaxFrame,
			MaxBufferedBytes: int64(min(max(w.Policy.MaxBufferedBytes, 0), 1<<40)),
			TickInterval:     floatMillis(w.Policy.TickIntervalMs, maxTick),
		},
		methods: make(map[string]struct{}, len(methods)),
		events:  map[string]bool{"config.changed": true}, // sent, never announced
	}
	if n := w.Policy.MaxPayload; n > 0 {
		h.Policy.MaxPayload = int64(min(max(n, minPayload), 1<<30))
	}
	if h.Policy.TickInterval == 0 {
		h.Policy.TickInterval = 30 * time.Second
	}
	for _, m := range methods {
		h.methods[m] = struct{}{}
	}
	for _, e := range events {
		h.events[e] = true
	}
	return h, nil
}

func floatMillis(ms float64, limit time.Duration) time.Duration {
	if !(ms > 0) {
		return 0
	}
	return time.Duration(min(ms, float64(limit.Milliseconds()))) * time.Millisecond
}

// minimumVersion is the first release with a boot id.
const minimumVersion = "2026.8.2"

// check applies the rules of full support.
func (h *Hello) check(loopback bool) *RefusedError {
	update := fmt.Sprintf(next.UpdateOpenClaw, minimumVersion)
	switch {
	case h.Protocol < 4:
		return &RefusedError{Reason: ReasonProtocol, Permanent: true, Version: h.Version, NextStep: update,
			Message: "the gateway, OpenClaw " + h.Version + ", speaks wire protocol " + strconv.Itoa(h.Protocol) + ", which reports failed runs as successes"}
	case h.Protocol > 4:
		return &RefusedError{Reason: ReasonProtocol, Permanent: true, Version: h.Version,
			Message: "the gateway answered with a wire protocol that was not offered", NextStep: next.UpdateDash}
	case h.BootID == "":
		return &RefusedError{Reason: ReasonVersion, Permanent: true, Version: h.Version, NextStep: update,
			Message: "unsupported version " + h.Version + ": no boot id, so a restart cannot be told from a reconnect (needs OpenClaw " + minimumVersion + ")"}
	}
	for _, want := range scopesWanted {
		if !grants(h.Scopes, want) {
			return h.noScopes(loopback)
		}
	}
	return nil
}

func (h *Hello) noScopes(loopback bool) *RefusedError {
	e := &RefusedError{Reason: ReasonScopes, Permanent: true, Version: h.Version,
		Message:  "no scopes granted: the gateway let us in without the rights to run anything",
		NextStep: next.PairOrLoopback}
	if loopback {
		e.NextStep = next.CheckGatewayAuth
	}
	return e
}

func grants(list []string, s string) bool {
	for _, v := range list {
		// Admin covers all other scopes.
		if v == s || v == "operator.admin" {
			return true
		}
	}
	return false
}
