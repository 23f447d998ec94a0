package server

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
)

// text is nil for an empty string: the JSON says null.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func nonZero(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

// labels is never nil, so the JSON is an object.
func labels(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// list is never nil, so the JSON is an array.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// viewTask shows a task, with bodies with its long texts.
func viewTask(t Task, bodies bool) api.Task {
	spec := t.Spec
	v := api.Task{
		Id: t.ID, Priority: api.Priority(t.Class.String()), State: api.TaskState(t.State.String()),
		Tenant: t.Tenant, Pool: t.Pool, Session: text(t.Session), Gateway: text(t.Gateway),
		Attempt: t.Attempt, Claim: t.Claim, Replays: t.Replays, Deaths: int32(len(t.Trials.GetDeaths())), PlannedStops: t.Trials.GetStops(), GivenBack: t.Trials.GetGivenBack(),
		BlockedBy: text(t.BlockedBy), WaitingCode: (*api.TaskWaitingCode)(text(string(t.WaitingCode))), WaitingReason: text(t.WaitingReason),
		Cancel:      viewCancel(t.Cancel),
		Input:       api.TaskInput{Model: text(spec.GetModel()), TimeoutSeconds: spec.GetTimeoutSeconds()},
		MaxAttempts: spec.GetMaxAttempts(), OnUnknown: api.OnUnknown(t.OnUnknown()), Labels: labels(spec.GetLabels()),
		Requires:  api.TaskRequires{Capabilities: list(spec.GetCapabilities()), Region: text(spec.GetRegion())},
		CreatedAt: t.CreatedAt.UTC(), DueAt: moment(t.DueAt), NotAfter: moment(t.NotAfter),
		StartedAt: moment(t.StartedAt), FinishedAt: moment(t.FinishedAt),
	}
	if bodies {
		v.Input.Message = spec.GetMessage()
	}
	if t.State == messages.Held {
		v.DueAt = nil // that of a held task is the end of its wait for an answer
	}
	if t.Claim > 0 {
		v.RunId = text(t.RunID())
	}
	if r := t.Result; r != nil {
		cut, length := r.GetCutFrom(), int64(len(r.GetText()))
		if t.Brief != nil {
			length = max(length, t.Brief.Text)
		}
		v.Result = &api.TaskResult{Truncated: cut > 0, Length: max(cut, length), Usage: viewUsage(r.Used()), UnfinishedSubAgents: r.GetUnfinishedSubAgents()}
		if bodies {
			v.Result.Text = r.GetText()
		}
	}
	if e := t.Error; e != nil {
		v.Error = &api.TaskError{Code: e.GetCode(), Message: e.GetMessage(), Retryable: e.GetRetryable(), Usage: viewUsage(e.GetUsage())}
	}
	return v
}

func viewUsage(u *messages.Usage) *api.Usage {
	if u == nil {
		return nil
	}
	return &api.Usage{InputTokens: u.GetInput(), OutputTokens: u.GetOutput(), CachedInputTokens: u.GetCachedInput(), CacheWriteTokens: u.GetCacheWrite()}
}

func viewCancel(c messages.Cancel) api.TaskCancel {
	v := api.TaskCancel{RequestedAt: moment(c.RequestedAt), Reason: text(c.Reason)}
	if c.Confirmed != messages.ConfirmNone {
		yes := c.Confirmed == messages.Confirmed
		v.Confirmed = &yes
	}
	return v
}

func viewQueue(q QueueClass) api.QueueClass {
	return api.QueueClass{
		Pool: q.Pool, Tenant: q.Tenant, Class: api.Priority(q.Class.String()), Depth: q.Depth, Bytes: q.Bytes,
		Running: q.Running, OldestAgeSeconds: q.OldestAge.Seconds(), Limits: viewLimit(q.Limit),
		Warning: text(q.Warning),
	}
}

func viewLimit(l messages.ClassLimit) api.ClassLimit {
	return api.ClassLimit{Count: l.Count, Bytes: l.Bytes}
}

// viewGateway is what the caller may know of a gateway: a tenant no details of
// why it cannot be reached, nobody its token, configuration and environment.
func (c *call) viewGateway(g Gateway) api.Gateway {
	v := viewGateway(g)
	if c.tenant() != "" {
		reason, step := messages.Coarse(v.Id, string(v.State), g.Status.Reason, g.Status.NextStep)
		v.Reason, v.NextStep = text(reason), text(step)
	}
	return v
}

func viewGateway(g Gateway) api.Gateway {
	c, st := g.Config, g.Status
	state := st.State
	if state == 0 {
		state = messages.GatewayRegistered
	}
	v := api.Gateway{
		Id: c.ID, Tenant: c.Tenant, Pool: c.Pool, Node: text(c.Node), Region: text(c.Region), Url: text(c.URL),
		MaxConcurrency: c.MaxConcurrency, Weight: c.Weight, Capabilities: list(c.Capabilities), Labels: labels(c.Labels),
		Drained: c.Drained, Version: c.Version, CreatedAt: c.CreatedAt.UTC(),
		State: api.GatewayState(state.String()), Reason: text(st.Reason), NextStep: text(st.NextStep), Since: moment(st.Since),
		Owner: text(st.Owner), BootId: text(st.BootID), OpenclawVersion: text(st.Version),
		Window: st.Window, Running: st.Running, Restarts: st.Restarts, Pid: nonZero(st.PID),
	}
	if m := c.Managed; m != nil {
		names := make([]string, 0, len(m.Env))
		for n := range m.Env {
			names = append(names, n)
		}
		slices.Sort(names)
		v.Managed = &api.Managed{Command: list(m.Command), Port: nonZero(m.Port), StateDir: text(m.StateDir), EnvNames: names,
			ConfigState: (*api.ManagedConfigState)(text(g.ConfigState))}
	}
	return v
}

func viewSession(s messages.Session) api.Session {
	return api.Session{
		Id: s.ID, Tenant: s.Tenant, Pool: s.Pool, Gateway: text(s.Gateway), Generation: s.Generation,
		State: api.SessionState(s.State.String()), Reason: text(s.Reason), NextStep: text(s.NextStep),
		Restarts: s.Restarts, Labels: labels(s.Labels), CreatedAt: s.CreatedAt.UTC(), UpdatedAt: s.UpdatedAt.UTC(),
	}
}

// viewTurn marks where a new generation begins. The turn before the first one
// shown is not known, so the first is never marked.
func viewTurn(turns []messages.Task, i int, l *api.Long) api.Turn {
	t := &turns[i]
	return api.Turn{
		Task: t.ID, Message: l.Put(t.Spec.GetMessage()), Text: l.Put(t.Result.GetText()), Gateway: text(t.Gateway),
		Generation: t.Generation, Seam: i > 0 && turns[i-1].Generation != t.Generation, FinishedAt: moment(t.FinishedAt),
	}
}

// taskBytes is about what tasks hold in memory.
func taskBytes(tasks []messages.Task) (n int64) {
	for i := range tasks {
		n += weighTask + int64(len(tasks[i].Spec.GetMessage())+len(tasks[i].Result.GetText()))
	}
	return n
}

func viewPool(p messages.Pool) api.Pool {
	limit := func(c messages.Class) api.ClassLimit { return viewLimit(p.Limit(c)) }
	reserved := func(c messages.Class) *int { n := p.Reserved[c]; return &n }
	return api.Pool{
		Id: p.ID, Tenant: p.Tenant, MaxConcurrency: p.MaxConcurrency,
		Limits: api.PoolLimits{
			Critical: limit(messages.Critical), High: limit(messages.High), Medium: limit(messages.Medium), Low: limit(messages.Low),
		},
		Reserved: api.Reserved{
			Critical: reserved(messages.Critical), High: reserved(messages.High), Medium: reserved(messages.Medium), Low: reserved(messages.Low),
		},
		AgingSeconds: p.AgingSeconds, AwaySeconds: int(p.Away().Seconds()), Version: p.Version, CreatedAt: moment(p.CreatedAt),
	}
}

func viewNode(n Node) api.Node {
	return api.Node{Id: n.ID, Addr: text(n.Addr), Region: text(n.Region), Version: n.Version, ExpiresAt: moment(n.Expires), Works: n.Works}
}

// canonicalJSON writes a parsed body so that equal bodies give equal bytes:
// names sorted, no white space, one form for each number and text.
func canonicalJSON(tree any) (string, error) {
	b, err := json.Marshal(tree)
	if err != nil {
		return "", fmt.Errorf("canonical body: %w", err)
	}
	return string(b), nil
}
