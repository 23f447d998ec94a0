package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/http/api"
)

func sessionCommand(t *terminal) *cobra.Command {
	return noun("session", "Manage agent sessions: ordered conversations on one gateway at a time",
		sessionCreateCommand(t), sessionListCommand(t), sessionShowCommand(t), sessionSendCommand(t), sessionTranscriptCommand(t),
		sessionMoveCommand(t), sessionResumeCommand(t), sessionCloseCommand(t))
}

var sessionColumns = []column[api.Session]{
	{name: "ID", value: func(v api.Session) string { return v.Id }},
	{name: "STATE", value: func(v api.Session) string { return string(v.State) }},
	{name: "GATEWAY", value: func(v api.Session) string { return deref(v.Gateway) }},
	{name: "POOL", value: func(v api.Session) string { return v.Pool }},
	{name: "GENERATION", value: func(v api.Session) string { return fmt.Sprint(v.Generation) }},
	{name: "RESTARTS", value: func(v api.Session) string { return fmt.Sprint(v.Restarts) }},
	{name: "UPDATED", value: func(v api.Session) string { return age(time.Since(v.UpdatedAt)) }},
	{name: "REASON", value: func(v api.Session) string { return deref(v.Reason) }},
	{name: "NEXT-STEP", wide: true, value: func(v api.Session) string { return deref(v.NextStep) }},
	{name: "TENANT", wide: true, value: func(v api.Session) string { return v.Tenant }},
	{name: "LABELS", wide: true, value: func(v api.Session) string { return labels(v.Labels) }},
	{name: "CREATED", wide: true, value: func(v api.Session) string { return when(&v.CreatedAt) }},
}

func sessionPath(id string) string { return "/sessions/" + url.PathEscape(id) }

func tenantFlag(c *cobra.Command, tenant *string) {
	c.Flags().StringVar(tenant, "tenant", "", "tenant of the session (default the key's, or default)")
}

func sessionCreateCommand(t *terminal) *cobra.Command {
	var pool, tenant string
	var given []string
	c := verb(t, &cobra.Command{
		Use: "create [ID]", Short: "Open a session; the first task that names one opens it too", Args: cobra.MaximumNArgs(1),
		Example: "  dash session create s-1 --label user=ann\n  dash session create -o name",
	}, sessionColumns, func(ctx context.Context, c *client, o output, args []string) error {
		marks, err := pairs("label", given)
		if err != nil {
			return err
		}
		body := api.CreateSession{Pool: opt(pool), Tenant: opt(tenant)}
		if len(args) > 0 {
			body.Id = &args[0]
		}
		if len(marks) > 0 {
			body.Labels = &marks
		}
		var s api.Session
		if err := c.call(ctx, post("/sessions", body), &s); err != nil {
			return err
		}
		return printList(t, o, sessionColumns, []api.Session{s})
	})
	c.Flags().StringVar(&pool, "pool", "", "pool the session belongs to (default its tenant's own)")
	c.Flags().StringArrayVar(&given, "label", nil, "label as name=value; repeatable")
	tenantFlag(c, &tenant)
	completeFlags(c, map[string]cobra.CompletionFunc{"pool": completePools(t)})
	return c
}

func sessionListCommand(t *terminal) *cobra.Command {
	var pool, tenant string
	var limit int
	c := verb(t, &cobra.Command{
		Use: "list", Short: "List sessions",
		Example: "  dash session list\n  dash session list --pool default -o json",
	}, sessionColumns, func(ctx context.Context, c *client, o output, _ []string) error {
		items, more, err := listAll[api.Session](ctx, c, "/sessions", query("pool", pool, "tenant", tenant), limit)
		if err != nil {
			return err
		}
		if err := printList(t, o, sessionColumns, items); err != nil {
			return err
		}
		if more {
			fmt.Fprintf(t.err, "the first %d are shown; --limit 0 shows all\n", limit)
		}
		return nil
	})
	c.Flags().StringVar(&pool, "pool", "", "only sessions of this pool")
	c.Flags().IntVar(&limit, "limit", 100, "at most this many; 0 for all")
	tenantFlag(c, &tenant)
	completeFlags(c, map[string]cobra.CompletionFunc{"pool": completePools(t)})
	return c
}

// oneSession builds a verb for one session, given by a unique beginning of its id.
func oneSession(t *terminal, c *cobra.Command, run func(ctx context.Context, c *client, o output, id string, q url.Values) error) *cobra.Command {
	var tenant string
	c.Args = exactArgs("a session id")
	c.ValidArgsFunction = completeSessions(t)
	c = verb(t, c, sessionColumns, func(ctx context.Context, c *client, o output, args []string) error {
		id, err := sessionID(ctx, c, tenant, args[0])
		if err != nil {
			return err
		}
		return run(ctx, c, o, id, query("tenant", tenant))
	})
	tenantFlag(c, &tenant)
	return c
}

func sessionShowCommand(t *terminal) *cobra.Command {
	return oneSession(t, &cobra.Command{
		Use: "show ID", Short: "Show one session: its state, why, and what to do",
		Example: "  dash session show s-1",
	}, func(ctx context.Context, c *client, o output, id string, q url.Values) error {
		var s api.Session
		if err := c.call(ctx, get(sessionPath(id), q), &s); err != nil {
			return err
		}
		return printOne(t, o, sessionColumns, s)
	})
}

func sessionSendCommand(t *terminal) *cobra.Command {
	var message, priority, key string
	var wait bool
	c := oneSession(t, &cobra.Command{
		Use: "send ID", Short: "Submit the next turn of a session",
		Long:    "The next turn of a session that exists, in its own pool. Without --message the text is\nread from stdin.",
		Example: "  dash session send s-1 --message 'And in French?' --wait",
	}, func(ctx context.Context, c *client, o output, id string, q url.Values) error {
		text, err := readMessage(t, message)
		if err != nil {
			return err
		}
		call := submitting(sessionPath(id)+"/messages", api.SendMessage{Message: text, Priority: opt(api.Priority(priority))}, key)
		call.query = q
		var task api.Task
		if err := c.call(ctx, call, &task); err != nil {
			return err
		}
		if !wait {
			o.columns = nil // those named are a session's, the answer is a task
			return printList(t, o, taskColumns, []api.Task{task})
		}
		final, shown, err := watchTask(ctx, t, c, task.Id)
		if err != nil {
			return err
		}
		return settle(t, o, final, shown)
	})
	c.Flags().StringVar(&message, "message", "", "message to the agent; - or nothing reads stdin")
	c.Flags().StringVar(&priority, "priority", "", "critical, high, medium or low (default medium)")
	c.Flags().StringVar(&key, "idempotency-key", "", "the same key with the same message is accepted once")
	c.Flags().BoolVar(&wait, "wait", false, "follow the run and print its result")
	completeFlags(c, map[string]cobra.CompletionFunc{"priority": completePriority})
	return c
}

func sessionTranscriptCommand(t *terminal) *cobra.Command {
	var limit int
	c := oneSession(t, &cobra.Command{
		Use: "transcript ID", Short: "Print the conversation of a session",
		Example: "  dash session transcript s-1\n  dash session transcript s-1 --limit 5 -o json",
	}, func(ctx context.Context, c *client, o output, id string, q url.Values) error {
		turns, err := transcript(ctx, c, id, q, limit)
		if err != nil {
			return err
		}
		if o.format != "table" && o.format != "wide" {
			return printList(t, o, turnColumns, turns)
		}
		var b strings.Builder
		for _, turn := range turns {
			if turn.Seam {
				fmt.Fprintf(&b, "--- new generation %d on %s; the agent was given the history again ---\n", turn.Generation, clean(deref(turn.Gateway)))
			}
			fmt.Fprintf(&b, "> %s\n%s\n\n", strings.ReplaceAll(t.said(turn.Message), "\n", "\n> "), t.said(turn.Text))
		}
		return write(t, b.String())
	})
	c.Flags().IntVar(&limit, "limit", 100, "at most this many of the newest turns")
	return c
}

// transcript reads the newest turns, page by page: a page of long ones is short.
func transcript(ctx context.Context, c *client, id string, q url.Values, limit int) (turns []api.Turn, err error) {
	for {
		q.Set("limit", fmt.Sprint(min(1000, limit-len(turns))))
		var page api.Transcript
		if err := c.call(ctx, get(sessionPath(id)+"/transcript", q), &page); err != nil {
			return nil, err
		}
		turns = slices.Concat(page.Items, turns)
		if next := deref(page.NextCursor); next == "" || len(page.Items) == 0 || len(turns) >= limit {
			return turns, nil
		}
		q.Set("cursor", *page.NextCursor)
	}
}

var turnColumns = []column[api.Turn]{{name: "TASK", value: func(v api.Turn) string { return v.Task }}}

func sessionMoveCommand(t *terminal) *cobra.Command {
	var gateway string
	var force bool
	c := oneSession(t, &cobra.Command{
		Use: "move ID", Short: "Move a session to another gateway of its pool",
		Long:    "Waits for the running turn; with --force the turn is treated as its on_unknown says.\nThe new gateway gets the session's history.",
		Example: "  dash session move s-1 --gateway gw-2\n  dash session move s-1",
	}, func(ctx context.Context, c *client, o output, id string, q url.Values) error {
		call := post(sessionPath(id)+"/move", api.MoveSession{Gateway: opt(gateway), Force: opt(force)})
		call.query = q
		var s api.Session
		if err := c.call(ctx, call, &s); err != nil {
			return err
		}
		return printList(t, o, sessionColumns, []api.Session{s})
	})
	c.Flags().StringVar(&gateway, "gateway", "", "where to (default Dash chooses)")
	c.Flags().BoolVar(&force, "force", false, "do not wait for the running turn")
	completeFlags(c, map[string]cobra.CompletionFunc{"gateway": completeGateways(t)})
	return c
}

func sessionResumeCommand(t *terminal) *cobra.Command {
	return oneSession(t, &cobra.Command{
		Use: "resume ID", Short: "Let a parked session try again",
		Example: "  dash session resume s-1",
	}, func(ctx context.Context, c *client, o output, id string, q url.Values) error {
		call := post(sessionPath(id)+"/resume", nil)
		call.query = q
		var s api.Session
		if err := c.call(ctx, call, &s); err != nil {
			return err
		}
		return printList(t, o, sessionColumns, []api.Session{s})
	})
}

func sessionCloseCommand(t *terminal) *cobra.Command {
	return oneSession(t, &cobra.Command{
		Use: "close ID", Short: "Close a session; refused while it has open tasks",
		Long:    "A closed session takes no more tasks. After the node's --session-retention (30 days unless\nconfigured) it is removed, and its id is free for a new one; its tasks stay for --retention.",
		Example: "  dash session close s-1",
	}, func(ctx context.Context, c *client, _ output, id string, q url.Values) error {
		call := request{method: http.MethodDelete, path: sessionPath(id), query: q, header: post("", nil).header}
		if err := c.call(ctx, call, nil); err != nil {
			return err
		}
		fmt.Fprintf(t.err, "session %s is closed\n", clean(id))
		return nil
	})
}
