package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Page is which part of a list is asked for; zero fields take the server's defaults.
type Page struct {
	Limit  int
	Cursor string
}

// TaskQuery narrows a list of tasks; zero fields do not.
type TaskQuery struct {
	States                                []TaskState
	Priority                              Priority
	Session, Gateway, Pool, Tenant, Label string
	Bodies                                bool // with the long texts
	Page
}

type query url.Values

func (q query) set(name, v string) query {
	if v != "" {
		url.Values(q).Set(name, v)
	}
	return q
}

func (q query) page(p Page) url.Values {
	if p.Limit > 0 {
		q.set("limit", strconv.Itoa(p.Limit))
	}
	return url.Values(q.set("cursor", p.Cursor))
}

func tenantQuery(tenant string) url.Values { return url.Values(query{}.set("tenant", tenant)) }

func names[T ~string](list []T) string {
	s := make([]string, len(list))
	for i, v := range list {
		s[i] = string(v)
	}
	return strings.Join(s, ",")
}

// SubmitTask returns when the task is durable.
func (c *Client) SubmitTask(ctx context.Context, t SubmitTask, opts ...Option) (*Task, error) {
	return call[Task](ctx, c, http.MethodPost, "/tasks", nil, t, opts)
}

// ListTasks returns a page of tasks, newest first.
func (c *Client) ListTasks(ctx context.Context, q TaskQuery) (*TaskPage, error) {
	v := query{}.set("state", names(q.States)).set("priority", string(q.Priority)).set("session", q.Session).
		set("gateway", q.Gateway).set("pool", q.Pool).set("tenant", q.Tenant).set("label", q.Label)
	if q.Bodies {
		v.set("include", string(ListTasksParamsIncludeBodies))
	}
	return call[TaskPage](ctx, c, http.MethodGet, "/tasks", v.page(q.Page), nil, nil)
}

// GetTask returns the task; with wait it is held back until the task is
// terminal or the time (whole seconds, at most 300) is over.
func (c *Client) GetTask(ctx context.Context, id string, wait time.Duration) (*Task, error) {
	q := query{}
	if s := int(wait.Seconds()); s > 0 {
		q.set("wait_seconds", strconv.Itoa(s))
	}
	return call[Task](ctx, c, http.MethodGet, "/tasks"+seg(id), url.Values(q), nil, nil)
}

// CancelTask asks for the end of a task.
func (c *Client) CancelTask(ctx context.Context, id string, in CancelTask, opts ...Option) (*Task, error) {
	return call[Task](ctx, c, http.MethodPost, "/tasks"+seg(id)+"/cancel", nil, in, opts)
}

// ReplayTask puts a dead letter back into the queue.
func (c *Client) ReplayTask(ctx context.Context, id string, opts ...Option) (*Task, error) {
	return call[Task](ctx, c, http.MethodPost, "/tasks"+seg(id)+"/replay", nil, nil, opts)
}

// ReleaseTask decides about a held task.
func (c *Client) ReleaseTask(ctx context.Context, id string, in ReleaseTask, opts ...Option) (*Task, error) {
	return call[Task](ctx, c, http.MethodPost, "/tasks"+seg(id)+"/release", nil, in, opts)
}

// ReplayDeadLetters puts all matching dead letters back.
func (c *Client) ReplayDeadLetters(ctx context.Context, in ReplayDeadLetters, opts ...Option) (*ReplayedDeadLetters, error) {
	return call[ReplayedDeadLetters](ctx, c, http.MethodPost, "/dead-letters/replay", nil, in, opts)
}

// GetQueue tells what waits and runs, in all pages; pool may be empty.
func (c *Client) GetQueue(ctx context.Context, pool string) (*Queue, error) {
	all := &Queue{}
	for cursor := ""; ; {
		q, err := call[Queue](ctx, c, http.MethodGet, "/queue", query{}.set("pool", pool).page(Page{Cursor: cursor}), nil, nil)
		if err != nil {
			return nil, err
		}
		all.Items = append(all.Items, q.Items...)
		if q.NextCursor == nil {
			return all, nil
		}
		cursor = *q.NextCursor
	}
}

// CreateGateway registers a gateway.
func (c *Client) CreateGateway(ctx context.Context, in CreateGateway, opts ...Option) (*Gateway, error) {
	return call[Gateway](ctx, c, http.MethodPost, "/gateways", nil, in, opts)
}

// ListGateways returns a page of gateways; pool may be empty.
func (c *Client) ListGateways(ctx context.Context, pool string, states []GatewayState, p Page) (*GatewayPage, error) {
	return call[GatewayPage](ctx, c, http.MethodGet, "/gateways", query{}.set("pool", pool).set("state", names(states)).page(p), nil, nil)
}

// GetGateway returns one gateway.
func (c *Client) GetGateway(ctx context.Context, id string) (*Gateway, error) {
	return call[Gateway](ctx, c, http.MethodGet, "/gateways"+seg(id), nil, nil, nil)
}

// UpdateGateway changes the fields that are present.
func (c *Client) UpdateGateway(ctx context.Context, id string, in UpdateGateway, opts ...Option) (*Gateway, error) {
	return call[Gateway](ctx, c, http.MethodPatch, "/gateways"+seg(id), nil, in, opts)
}

// DeleteGateway removes a gateway; with force also while it holds tasks.
func (c *Client) DeleteGateway(ctx context.Context, id string, force bool, opts ...Option) error {
	q := query{}
	if force {
		q.set("force", "true")
	}
	return c.Do(ctx, http.MethodDelete, "/gateways"+seg(id), url.Values(q), nil, nil, opts...)
}

// DrainGateway gives a gateway no more work.
func (c *Client) DrainGateway(ctx context.Context, id string, opts ...Option) (*Gateway, error) {
	return call[Gateway](ctx, c, http.MethodPost, "/gateways"+seg(id)+"/drain", nil, nil, opts)
}

// ResumeGateway takes a gateway back into service.
func (c *Client) ResumeGateway(ctx context.Context, id string, opts ...Option) (*Gateway, error) {
	return call[Gateway](ctx, c, http.MethodPost, "/gateways"+seg(id)+"/resume", nil, nil, opts)
}

// RestartGateway restarts a gateway.
func (c *Client) RestartGateway(ctx context.Context, id string, opts ...Option) (*Gateway, error) {
	return call[Gateway](ctx, c, http.MethodPost, "/gateways"+seg(id)+"/restart", nil, nil, opts)
}

// CreateSession opens a session.
func (c *Client) CreateSession(ctx context.Context, in CreateSession, opts ...Option) (*Session, error) {
	return call[Session](ctx, c, http.MethodPost, "/sessions", nil, in, opts)
}

// ListSessions returns a page of sessions; pool and tenant may be empty.
func (c *Client) ListSessions(ctx context.Context, pool, tenant string, p Page) (*SessionPage, error) {
	return call[SessionPage](ctx, c, http.MethodGet, "/sessions", query{}.set("pool", pool).set("tenant", tenant).page(p), nil, nil)
}

// GetSession returns one session; an empty tenant means the key's own.
func (c *Client) GetSession(ctx context.Context, tenant, id string) (*Session, error) {
	return call[Session](ctx, c, http.MethodGet, "/sessions"+seg(id), tenantQuery(tenant), nil, nil)
}

// CloseSession ends a session.
func (c *Client) CloseSession(ctx context.Context, tenant, id string, opts ...Option) error {
	return c.Do(ctx, http.MethodDelete, "/sessions"+seg(id), tenantQuery(tenant), nil, nil, opts...)
}

// SendMessage submits the next turn of a session.
func (c *Client) SendMessage(ctx context.Context, tenant, id string, in SendMessage, opts ...Option) (*Task, error) {
	return call[Task](ctx, c, http.MethodPost, "/sessions"+seg(id)+"/messages", tenantQuery(tenant), in, opts)
}

// GetTranscript returns a page of the turns that succeeded, the newest first;
// inside of a page the oldest comes first.
func (c *Client) GetTranscript(ctx context.Context, tenant, id string, p Page) (*Transcript, error) {
	q := query(tenantQuery(tenant)).page(p)
	return call[Transcript](ctx, c, http.MethodGet, "/sessions"+seg(id)+"/transcript", q, nil, nil)
}

// MoveSession moves a session to another gateway.
func (c *Client) MoveSession(ctx context.Context, tenant, id string, in MoveSession, opts ...Option) (*Session, error) {
	return call[Session](ctx, c, http.MethodPost, "/sessions"+seg(id)+"/move", tenantQuery(tenant), in, opts)
}

// ResumeSession lets a parked session try again.
func (c *Client) ResumeSession(ctx context.Context, tenant, id string, opts ...Option) (*Session, error) {
	return call[Session](ctx, c, http.MethodPost, "/sessions"+seg(id)+"/resume", tenantQuery(tenant), nil, opts)
}

// ListPools returns a page of pools.
func (c *Client) ListPools(ctx context.Context, p Page) (*PoolPage, error) {
	return call[PoolPage](ctx, c, http.MethodGet, "/pools", query{}.page(p), nil, nil)
}

// GetPool returns one pool.
func (c *Client) GetPool(ctx context.Context, id string) (*Pool, error) {
	return call[Pool](ctx, c, http.MethodGet, "/pools"+seg(id), nil, nil, nil)
}

// DeletePool removes a pool that nothing refers to.
func (c *Client) DeletePool(ctx context.Context, id string, opts ...Option) error {
	return c.Do(ctx, http.MethodDelete, "/pools"+seg(id), nil, nil, nil, opts...)
}

// PutPool creates (WithCreateOnly) or replaces (WithVersion) a pool.
func (c *Client) PutPool(ctx context.Context, id string, in PutPool, opts ...Option) (*Pool, error) {
	return call[Pool](ctx, c, http.MethodPut, "/pools"+seg(id), nil, in, opts)
}

// ListNodes returns the nodes of the cluster.
func (c *Client) ListNodes(ctx context.Context) (*NodeList, error) {
	return call[NodeList](ctx, c, http.MethodGet, "/nodes", nil, nil, nil)
}

// GetReady returns readiness with its checks. A node that is not ready is an
// answer, not an error.
func (c *Client) GetReady(ctx context.Context) (*Health, error) {
	return c.health(ctx, "/health/ready?verbose")
}

// GetLive returns that the process answers.
func (c *Client) GetLive(ctx context.Context) (*Health, error) {
	return c.health(ctx, "/health/live")
}
