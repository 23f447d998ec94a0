package messages

import (
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Gateway is the configuration of one gateway: what an operator wants.
type Gateway struct {
	ID             string
	Tenant         string
	Pool           string
	Node           string // name of its home, or of the node that registered it
	Home           string // id of its home, the only node that starts and dials it; empty: not claimed yet, see HomeBound
	Region         string
	URL            string // ws:// or wss://; empty for a managed gateway before its first start
	Token          Secret
	MaxConcurrency int
	Weight         int
	Capabilities   []string
	Labels         map[string]string
	Managed        *Managed
	Drained        bool // the operator wants no work on it
	Version        int64
	CreatedAt      time.Time
}

// HomeBound reports whether only one node can reach the gateway: a daemon that
// Dash starts lives on the host and in the data folder of one node, and a
// loopback address means another process on every host.
func (g *Gateway) HomeBound() bool { return g.Managed != nil || Loopback(g.URL) }

// Loopback reports whether a URL leads to the host of whoever dials it.
func Loopback(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	if LoopbackName(u.Hostname()) {
		return true
	}
	a, err := netip.ParseAddr(u.Hostname())
	return err == nil && (a.Unmap().IsLoopback() || a.Unmap().IsUnspecified())
}

// LoopbackName reports whether a name means this machine everywhere.
func LoopbackName(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// Managed describes a gateway daemon that Dash starts and keeps alive.
type Managed struct {
	Command  []string // absolute program and arguments; empty: the node's default command
	Port     int      // 0: chosen at the first start and kept
	StateDir string   // empty: a folder of its own below the node's data folder
	// Config is merged over the configuration file that Dash writes.
	Config map[string]any
	Env    map[string]string
}

// GatewayStatus is what the gateway's owner last recorded: what is.
type GatewayStatus struct {
	ID       string
	Tenant   string
	Owner    string
	Epoch    int64
	State    GatewayState
	Reason   string // why it is in this state, in words
	NextStep string // what an operator can do, in words
	BootID   string
	Version  string // OpenClaw version
	Window   int    // runs it may hold at once now
	Running  int
	Restarts int // restarts inside the present retry window
	PID      int // managed only
	Since    time.Time
}

// Event returns the log entry that tells of the gateway's present state.
func (g *GatewayStatus) Event(pool string, from GatewayState, at time.Time) *Event {
	c := &GatewayChanged{Pool: pool, State: g.State.String(), Reason: g.Reason, NextStep: g.NextStep, Window: int32(g.Window), BootId: g.BootID}
	if from != 0 {
		c.From = from.String()
	}
	return &Event{TimeMicros: at.UnixMicro(), Tenant: g.Tenant, Type: "gateway.state", Subject: g.ID, Data: &Event_Gateway{Gateway: c}}
}
