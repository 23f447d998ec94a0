package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
)

// MaxMessage bounds the message of a task, in bytes of UTF-8.
const MaxMessage = 256 << 10

func taskPath(id string) string { return prefix + "/tasks/" + id }

func (s *Server) submitTask(c *call) error {
	var b api.SubmitTask
	raw, err := c.read()
	if err != nil {
		return err
	}
	if !decodeSubmit(raw, &b) {
		b = api.SubmitTask{}
		if err := c.body(&b); err != nil {
			return err
		}
	}
	req, err := submitRequest(&b, messages.Now())
	if err != nil {
		return err
	}
	if req.Tenant, err = c.ownTenant(b.Tenant); err != nil {
		return err
	}
	if req.IdemKey, req.IdemHash, err = c.idempotency(&b); err != nil {
		return err
	}
	return s.submit(c, req)
}

func (s *Server) submit(c *call, req SubmitRequest) error {
	done, err := s.cmd.Tasks.Submit(c.ctx(), req)
	if err != nil {
		return err
	}
	if done.Replayed {
		c.repeated()
	} else {
		s.told(done.Task.ID, c.r.Header.Get("Traceparent"), c.proved)
	}
	return c.created(http.StatusAccepted, taskPath(done.Task.ID), viewTask(done.Task, true))
}

// submitRequest checks what the schema cannot say and fills in the defaults.
func submitRequest(b *api.SubmitTask, now time.Time) (SubmitRequest, error) {
	var wrong []messages.FieldError
	add := func(pointer, detail string) {
		wrong = append(wrong, messages.FieldError{Pointer: pointer, Detail: detail})
	}
	if err := checkMessage("/input/message", b.Input.Message); err != nil {
		return SubmitRequest{}, err
	}
	class, err := messages.ParseClass(string(b.Priority))
	if err != nil {
		add("/priority", err.Error())
	}
	r := SubmitRequest{Class: class, Pool: value(b.Pool), Session: value(b.Session)}
	if b.DueAt != nil && b.DelaySeconds != nil {
		add("/delay_seconds", "must not be given together with due_at")
	}
	if b.DueAt != nil {
		r.DueAt = stored(*b.DueAt)
	}
	if b.DelaySeconds != nil && *b.DelaySeconds > 0 {
		r.DueAt = now.Add(time.Duration(*b.DelaySeconds * float64(time.Second))).Truncate(time.Microsecond)
	}
	if b.NotAfter != nil {
		r.NotAfter = stored(*b.NotAfter)
		if !r.NotAfter.After(now) {
			add("/not_after", "is in the past: the task could never run")
		} else if !r.DueAt.IsZero() && !r.NotAfter.After(r.DueAt) {
			add("/not_after", "must be later than the time the task is due")
		}
	}
	wrong = append(wrong, checkLabels(b.Labels)...)
	spec := &messages.TaskSpec{
		Message: b.Input.Message, Model: value(b.Input.Model),
		TimeoutSeconds: or(b.Input.TimeoutSeconds, messages.DefaultTimeoutSeconds), MaxAttempts: or(b.MaxAttempts, messages.DefaultMaxAttempts),
		OnUnknown: string(or(b.OnUnknown, api.OnUnknown(messages.Requeue))), Labels: value(b.Labels),
	}
	if b.Requires != nil {
		spec.Capabilities, spec.Region = value(b.Requires.Capabilities), value(b.Requires.Region)
	}
	if b.Backoff != nil {
		spec.Backoff = backoff(b.Backoff)
		if spec.Backoff.MaxSeconds < spec.Backoff.InitialSeconds {
			add("/backoff/max_seconds", "must not be less than initial_seconds")
		}
	}
	r.Spec = spec
	if len(wrong) > 0 {
		return SubmitRequest{}, invalid(wrong...)
	}
	return r, nil
}

// stored is a time as Dash keeps it.
func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func or[T any](p *T, def T) T {
	if p != nil {
		return *p
	}
	return def
}

func backoff(b *api.Backoff) *messages.Backoff {
	m := &messages.Backoff{
		InitialSeconds: or(b.InitialSeconds, messages.DefaultBackoffInitial), MaxSeconds: or(b.MaxSeconds, messages.DefaultBackoffMax),
		Factor: or(b.Factor, messages.DefaultBackoffFactor), Jitter: or(b.Jitter, messages.DefaultBackoffJitter),
	}
	if b.MaxSeconds == nil {
		m.MaxSeconds = max(m.MaxSeconds, m.InitialSeconds)
	}
	if b.InitialSeconds == nil {
		m.InitialSeconds = min(m.InitialSeconds, m.MaxSeconds)
	}
	return m
}

// checkMessage bounds the bytes, as the schema can only count characters, and
// refuses what nobody could answer.
func checkMessage(pointer, m string) error {
	if strings.TrimSpace(m) == "" {
		return invalid(messages.FieldError{Pointer: pointer, Detail: "holds nothing but white space"})
	}
	if len(m) <= MaxMessage {
		return nil
	}
	e := invalid(messages.FieldError{Pointer: pointer, Detail: tooManyBytes})
	e.Code = messages.CodeTooLarge
	return e
}

// checkLabels checks the names; OpenAPI 3.0 has no rule for them.
func checkLabels(l *map[string]string) (wrong []messages.FieldError) {
	for name := range value(l) {
		if !validLabelName(name) {
			wrong = append(wrong, messages.FieldError{
				Pointer: pointer([]string{"labels", name}), Detail: "a label's name is 1 to 63 characters of A-Z a-z 0-9 . _ / -",
			})
		}
	}
	return wrong
}

func validLabelName(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._/-", rune(c)) {
			return false
		}
	}
	return true
}

func (s *Server) listTasks(c *call) error {
	f, err := c.taskFilter()
	if err != nil {
		return err
	}
	cursor, err := c.cursor()
	if err != nil {
		return err
	}
	weight := int64(weighList)
	if f.Bodies {
		weight = weighBodies
	}
	h, err := c.weigh(weight)
	if err != nil {
		return err
	}
	defer h.release()
	list, err := s.cmd.Tasks.Tasks(c.ctx(), f, cursor, c.limit())
	if err != nil {
		return err
	}
	held := int64(0)
	for _, t := range list.Tasks {
		held += taskBytes([]messages.Task{t.Task})
	}
	h.keep(held)
	return c.page(len(list.Tasks), func(i int, l *api.Long) any {
		v := viewTask(list.Tasks[i], f.Bodies)
		l.Task(&v)
		return v
	}, pageEnd{NextCursor: c.next(list.Next), SearchedTo: moment(list.SearchedTo)})
}

func (c *call) taskFilter() (f TaskFilter, err error) {
	q := c.query
	if f.Tenant, err = c.filterTenant(q.Get("tenant")); err != nil {
		return f, err
	}
	f.Pool, f.Session, f.Gateway = q.Get("pool"), q.Get("session"), q.Get("gateway")
	f.Code, f.IDBegin, f.IDEnd = q.Get("code"), q.Get("id_begin"), q.Get("id_end")
	f.After, f.Before = c.queryTime("created_after"), c.queryTime("created_before")
	f.LabelKey, f.LabelValue, _ = strings.Cut(q.Get("label"), ":")
	f.Bodies = q.Get("include") == "bodies" // the document knows no other
	if p := q.Get("priority"); p != "" {
		if f.Class, err = messages.ParseClass(p); err != nil {
			return f, invalid(messages.FieldError{Pointer: "query:priority", Detail: err.Error()})
		}
	}
	if states := q.Get("state"); states != "" {
		for name := range strings.SplitSeq(states, ",") {
			state, err := messages.ParseTaskState(name)
			if err != nil {
				return f, invalid(messages.FieldError{Pointer: "query:state", Detail: err.Error()})
			}
			f.States = append(f.States, state)
		}
	}
	return f, nil
}

// queryTime is a time of the query, zero when it is absent: its form was
// checked against the document.
func (c *call) queryTime(name string) time.Time {
	t, err := time.Parse(time.RFC3339, c.query.Get(name))
	if err != nil {
		return time.Time{}
	}
	return stored(t)
}

func (s *Server) getTask(c *call) error {
	if d := c.wait(); d > 0 {
		if err := s.waitTask(c, d); err != nil || c.status != 0 {
			return err
		}
	}
	t, err := s.cmd.Tasks.Task(c.ctx(), c.tenant(), c.param, false)
	if err != nil {
		return err
	}
	return s.showTask(c, t)
}

// showTask answers with a task and its texts. Long ones are weighed first.
func (s *Server) showTask(c *call, t Task) error {
	t, h, err := c.whole(c.ctx(), t)
	if err != nil {
		return err
	}
	defer h.release()
	return c.task(http.StatusOK, t)
}

// whole reads a task with its texts, if it was read without them.
func (c *call) whole(ctx context.Context, t Task) (Task, *held, error) {
	if t.Brief == nil {
		return t, nil, nil
	}
	h, err := c.s.answers.take(ctx, holders(c.principal), weighTask+2*(t.Brief.Message+t.Brief.Text))
	if err != nil {
		return t, nil, err
	}
	if t, err = c.s.cmd.Tasks.Task(ctx, c.tenant(), t.ID, true); err != nil {
		h.release()
		return t, nil, err
	}
	return t, h, nil
}

// waitTask answers when the task is terminal, or not at all: then the time is
// over, the node stops, or the client has closed its side, and nobody is kept waiting.
func (s *Server) waitTask(c *call, d time.Duration) error {
	ctx, cancel := context.WithTimeout(c.r.Context(), d)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	defer context.AfterFunc(c.client, cancel)()
	token, _ := auth.Token(c.r.Header) // it was read before
	ctx, release := auth.Guard(ctx, s.auth, token, c.access)
	defer release()
	t, err := s.cmd.Tasks.WaitTask(ctx, c.tenant(), c.param)
	if said := (*messages.Error)(nil); errors.As(context.Cause(ctx), &said) {
		return said
	}
	over := err != nil && ctx.Err() != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled))
	switch {
	case err != nil && !over:
		return err
	case over && c.ctx().Err() != nil: // a Stop cuts
		return c.ctx().Err()
	}
	if err := c.still(); err != nil || over {
		return err
	}
	return s.showTask(c, t)
}

func (s *Server) cancelTask(c *call) error {
	var b api.CancelTask
	if err := c.body(&b); err != nil {
		return err
	}
	t, err := s.cmd.Tasks.Cancel(c.ctx(), c.tenant(), c.param, value(b.Reason))
	return c.accepted(t, err)
}

func (s *Server) replayTask(c *call) error {
	t, done, err := s.cmd.Tasks.Replay(c.ctx(), c.tenant(), c.param, c.onceID())
	if err == nil && !done { // by this request, whose answer was forgotten
		c.repeated()
	}
	return c.accepted(t, err)
}

func (s *Server) releaseTask(c *call) error {
	var b api.ReleaseTask
	if err := c.body(&b); err != nil {
		return err
	}
	t, err := s.cmd.Tasks.Release(c.ctx(), c.tenant(), c.param, b.Action == api.ReleaseTaskActionFail)
	return c.accepted(t, err)
}

func (c *call) accepted(t Task, err error) error {
	if err != nil {
		return err
	}
	return c.ok(http.StatusAccepted, viewTask(t, true))
}

func (s *Server) replayDeadLetters(c *call) error {
	var b api.ReplayDeadLetters
	if err := c.body(&b); err != nil {
		return err
	}
	f := TaskFilter{
		Pool: value(b.Filter.Pool), Session: value(b.Filter.Session), Gateway: value(b.Filter.Gateway), Code: value(b.Filter.Code),
	}
	var err error
	if f.Tenant, err = c.filterTenant(value(b.Filter.Tenant)); err != nil {
		return err
	}
	f.LabelKey, f.LabelValue, _ = strings.Cut(value(b.Filter.Label), ":")
	if b.Filter.Priority != nil {
		if f.Class, err = messages.ParseClass(string(*b.Filter.Priority)); err != nil {
			return invalid(messages.FieldError{Pointer: "/filter/priority", Detail: err.Error()})
		}
	}
	if t := b.Filter.CreatedBefore; t != nil {
		f.Before = stored(*t)
	}
	if t := b.Filter.CreatedAfter; t != nil {
		f.After = stored(*t)
	}
	matched, replayed, err := s.cmd.Tasks.ReplayDeadLetters(c.ctx(), f, c.onceID(), value(b.DryRun))
	if err != nil {
		return err
	}
	return c.ok(http.StatusOK, api.ReplayedDeadLetters{Matched: matched, Replayed: replayed})
}

// getQueue answers with the classes behind that of the cursor, whose place is its
// pool's id and its name.
func (s *Server) getQueue(c *call) error {
	at, err := c.afterID()
	if err != nil {
		return err
	}
	from, class, _ := strings.Cut(at, "/")
	h, err := c.weigh(weighList)
	if err != nil {
		return err
	}
	defer h.release()
	all, err := s.cmd.Tasks.Queue(c.ctx(), c.tenant(), c.query.Get("pool"), from)
	if err != nil {
		return err
	}
	last := func(q QueueClass) bool { return q.Pool == from && q.Class.String() == class }
	all = all[slices.IndexFunc(all, last)+1:] // a pool that is gone is behind us
	n := len(all)
	if c.query.Get("limit") != "" {
		n = min(n, c.limit())
	}
	return c.list(n, func(i int, _ *api.Long) any { return viewQueue(all[i]) }, func(sent int) (end pageEnd) {
		if sent > 0 && sent < len(all) {
			q := all[sent-1]
			end.NextCursor = c.next(q.Pool + "/" + q.Class.String())
		}
		return end
	})
}
