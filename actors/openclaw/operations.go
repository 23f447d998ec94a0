package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// SystemInfo is the load of a gateway process.
type SystemInfo struct {
	PID               int
	ProcessInstanceID string
	Uptime            time.Duration
	CPUCount          int
	RSSBytes          int64
	EventLoop         EventLoop
}

// EventLoop tells how late the gateway's main thread runs. Utilization is
// 0..1, DelayP99 the 99th percentile of its delay.
type EventLoop struct {
	Degraded    bool
	DelayP99    time.Duration
	Utilization float64
}

type eventLoopWire struct {
	Degraded    bool    `json:"degraded"`
	DelayP99Ms  float64 `json:"delayP99Ms"`
	Utilization float64 `json:"utilization"`
}

func (w eventLoopWire) loop() EventLoop {
	l := EventLoop{Degraded: w.Degraded, Utilization: min(max(w.Utilization, 0), 1)}
	if w.DelayP99Ms > 0 {
		l.DelayP99 = time.Duration(min(w.DelayP99Ms, float64(time.Hour.Milliseconds())) * float64(time.Millisecond))
	}
	return l
}

// SystemInfo reads the load of the gateway process.
func (c *Conn) SystemInfo(ctx context.Context) (SystemInfo, error) {
	var w struct {
		PID       int           `json:"pid"`
		Instance  string        `json:"processInstanceId"`
		UptimeMs  float64       `json:"uptimeMs"`
		CPUCount  int           `json:"cpuCount"`
		EventLoop eventLoopWire `json:"eventLoop"`
		Memory    struct {
			RSS float64 `json:"rssBytes"`
		} `json:"processMemory"`
	}
	if err := c.Call(ctx, "system.info", nil, &w); err != nil {
		return SystemInfo{}, err
	}
	return SystemInfo{PID: w.PID, ProcessInstanceID: clean(w.Instance, maxShortText), CPUCount: w.CPUCount,
		Uptime:    floatMillis(w.UptimeMs, 100*365*24*time.Hour),
		RSSBytes:  int64(min(max(w.Memory.RSS, 0), 1<<50)),
		EventLoop: w.EventLoop.loop()}, nil
}

// Health asks for a sign of life; it works even without any scope. The values
// may be cached by the gateway.
func (c *Conn) Health(ctx context.Context) (EventLoop, error) {
	var w struct {
		OK        bool          `json:"ok"`
		EventLoop eventLoopWire `json:"eventLoop"`
	}
	if err := c.Call(ctx, "health", nil, &w); err != nil {
		return EventLoop{}, err
	}
	if !w.OK {
		return EventLoop{}, &AnswerError{Method: "health", Problem: "the gateway says it is not ok"}
	}
	return w.EventLoop.loop(), nil
}

// Lane is one of the gateway's queues. Runs of agent go through lane main.
type Lane struct {
	Name          string
	Active        int
	Queued        int
	MaxConcurrent int
	Draining      bool
}

// MainLane is the lane of ordinary runs.
const MainLane = "main"

// Lanes reads the gateway's queues.
func (c *Conn) Lanes(ctx context.Context) ([]Lane, error) {
	return ask(ctx, c, "diagnostics.lanes", nil, int(c.cfg.MaxFrame), func(b []byte) ([]Lane, error) {
		return decodeLanes(b, c.cfg.MaxDepth)
	})
}

// maxLanes bounds the lanes that are looked at; each session has one.
const maxLanes = 1 << 16

// decodeLanes keeps maxListed lanes, and the main one wherever it is.
func decodeLanes(b []byte, depth int) ([]Lane, error) {
	var out []Lane
	err := members(b, depth, "lanes", maxLanes, "lanes", func(row []byte) error {
		l, err := decodeLane(row, depth-2)
		if len(out) < maxListed || l.Name == MainLane {
			out = append(out, l)
		}
		return err
	})
	return out, err
}

func decodeLane(b []byte, depth int) (Lane, error) {
	var l Lane
	count := func(v []byte) int {
		n, _ := integer(v)
		return int(max(n, 0))
	}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "lane":
			s, _ := text(it.val)
			l.Name = clean(s, maxShortText)
		case "activeCount":
			l.Active = count(it.val)
		case "queuedCount":
			l.Queued = count(it.val)
		case "maxConcurrent":
			l.MaxConcurrent = count(it.val)
		case "draining":
			l.Draining, _ = boolean(it.val)
		}
	}
	return l, it.err
}

// Identity reads the gateway's device id, which stays the same for one state
// folder over all restarts.
func (c *Conn) Identity(ctx context.Context) (string, error) {
	var w struct {
		DeviceID string `json:"deviceId"`
	}
	if err := c.Call(ctx, "gateway.identity.get", nil, &w); err != nil {
		return "", err
	}
	if w.DeviceID == "" {
		return "", &AnswerError{Method: "gateway.identity.get", Problem: "no device id"}
	}
	return clean(w.DeviceID, maxShortText), nil
}

// Suspension is the state of a drain by call. The gateway opens again by
// itself at Expires (two minutes); asking again with the same request id
// prolongs it. Meanwhile every other method is refused.
type Suspension struct {
	Status  string // ready, draining, busy, running
	ID      string
	Active  int
	Expires time.Time
	Retry   time.Duration
}

// Ready reports whether nothing runs any more.
func (s Suspension) Ready() bool { return s.Status == "ready" }

type suspensionWire struct {
	Status       string  `json:"status"`
	ID           string  `json:"suspensionId"`
	Active       int     `json:"activeCount"`
	ExpiresAtMs  float64 `json:"expiresAtMs"`
	RetryAfterMs float64 `json:"retryAfterMs"`
	Resumed      bool    `json:"resumed"`
}

func (c *Conn) suspend(ctx context.Context, method string, params map[string]any) (suspensionWire, error) {
	var w suspensionWire
	if err := c.Call(ctx, method, params, &w); err != nil {
		return w, err
	}
	if w.Status == "" {
		return w, &AnswerError{Method: method, Problem: "no status"}
	}
	return w, nil
}

func (w suspensionWire) suspension() Suspension {
	s := Suspension{Status: clean(w.Status, 32), ID: clean(w.ID, maxShortText), Active: max(w.Active, 0), Retry: floatMillis(w.RetryAfterMs, maxRetryAfter)}
	if w.ExpiresAtMs > 0 && w.ExpiresAtMs < 1<<53 {
		s.Expires = time.UnixMilli(int64(w.ExpiresAtMs))
	}
	return s
}

// SuspendPrepare stops the intake of new work and lets what runs finish.
func (c *Conn) SuspendPrepare(ctx context.Context, requestID string) (Suspension, error) {
	w, err := c.suspend(ctx, "gateway.suspend.prepare", map[string]any{"requestId": requestID, "drain": true})
	return w.suspension(), err
}

// SuspendStatus asks how far the drain is.
func (c *Conn) SuspendStatus(ctx context.Context, suspensionID string) (Suspension, error) {
	w, err := c.suspend(ctx, "gateway.suspend.status", map[string]any{"suspensionId": suspensionID})
	return w.suspension(), err
}

// SuspendResume opens the gateway again; false if it was not suspended by this
// id.
func (c *Conn) SuspendResume(ctx context.Context, suspensionID string) (bool, error) {
	w, err := c.suspend(ctx, "gateway.suspend.resume", map[string]any{"suspensionId": suspensionID})
	return w.Resumed, err
}

// RestartPreflight reports whether a restart would cut nothing off.
func (c *Conn) RestartPreflight(ctx context.Context) (bool, error) {
	var w struct {
		Safe *bool `json:"safe"`
	}
	if err := c.Call(ctx, "gateway.restart.preflight", nil, &w); err != nil {
		return false, err
	}
	if w.Safe == nil {
		return false, &AnswerError{Method: "gateway.restart.preflight", Problem: "no safe member"}
	}
	return *w.Safe, nil
}

// ConfigState is what a gateway says of its configuration file. Its hashes are
// keyed: they can only be compared with each other, in one life of a gateway.
type ConfigState struct {
	Hash     string // of the file's bytes, as the gateway saw it last
	Revision string // of what the file says, empty: it is not valid
	Applied  string // of what the gateway runs with; empty: this version does not tell
	Problem  string // why the file is not valid, empty: it is
}

// Current reports whether the gateway runs with what its file says.
func (s ConfigState) Current() bool { return s.Revision != "" && s.Revision == s.Applied }

// ConfigState reads how far the gateway is with its configuration file, which
// it watches. Its answer holds the configuration several times over.
func (c *Conn) ConfigState(ctx context.Context) (ConfigState, error) {
	return ask(ctx, c, "config.get", nil, int(c.cfg.MaxFrame), func(b []byte) (ConfigState, error) {
		return decodeConfigState(b, c.cfg.MaxDepth)
	})
}

func decodeConfigState(b []byte, depth int) (ConfigState, error) {
	var s ConfigState
	valid := false
	issue := "it is not valid"
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "hash":
			s.Hash = shortText(it.val)
		case "configRevisionHash":
			s.Revision = shortText(it.val)
		case "appliedConfigHash":
			s.Applied = shortText(it.val)
		case "valid":
			valid = string(it.val) == "true"
		case "issues":
			issue = firstIssue(it.val, issue)
		}
	}
	switch {
	case it.err != nil:
		return s, it.err
	case s.Hash == "":
		return s, errNoHash
	case !valid:
		s.Problem = issue
	}
	return s, nil
}

var errNoHash = errors.New("no hash member")

func shortText(b []byte) string {
	v, _ := text(b) // anything else is no hash
	return clean(v, maxShortText)
}

// firstIssue says why a configuration is not valid; otherwise stands for a list
// that cannot be read.
func firstIssue(b []byte, otherwise string) string {
	var issues []struct {
		Path    string `json:"path"`
		Message string `json:"message"`
	}
	if len(b) > maxSmall || json.Unmarshal(b, &issues) != nil || len(issues) == 0 {
		return otherwise
	}
	return clean(strings.TrimPrefix(issues[0].Path+": "+issues[0].Message, ": "), maxErrText)
}
