package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

func taskCommand(t *terminal) *cobra.Command {
	return noun("task", "Submit tasks and follow them",
		submitCommand(t), taskListCommand(t), taskShowCommand(t), taskLogsCommand(t), taskCancelCommand(t), taskReplayCommand(t), taskReleaseCommand(t))
}

var taskColumns = []column[api.Task]{
	{name: "ID", end: true, value: func(v api.Task) string { return v.Id }},
	{name: "PRIORITY", value: func(v api.Task) string { return string(v.Priority) }},
	{name: "STATE", value: func(v api.Task) string { return string(v.State) }},
	{name: "WAITS-FOR", long: true, brief: func(v api.Task) string { return string(deref(v.WaitingCode)) }, value: func(v api.Task) string { return deref(v.WaitingReason) }},
	{name: "GATEWAY", value: func(v api.Task) string { return deref(v.Gateway) }},
	{name: "SESSION", value: func(v api.Task) string { return deref(v.Session) }},
	{name: "AGE", value: func(v api.Task) string { return age(time.Since(v.CreatedAt)) }},
	{name: "TOOK", value: took},
	{name: "ATTEMPT", wide: true, value: func(v api.Task) string { return fmt.Sprintf("%d/%d", v.Attempt, v.MaxAttempts) }},
	{name: "POOL", wide: true, value: func(v api.Task) string { return v.Pool }},
	{name: "TENANT", wide: true, value: func(v api.Task) string { return v.Tenant }},
	{name: "RUN", wide: true, value: func(v api.Task) string { return deref(v.RunId) }},
	{name: "REPLAYS", wide: true, value: func(v api.Task) string { return fmt.Sprint(v.Replays) }},
	{name: "BLOCKED-BY", wide: true, value: func(v api.Task) string { return deref(v.BlockedBy) }},
	{name: "LABELS", wide: true, value: func(v api.Task) string { return labels(v.Labels) }},
	{name: "CREATED", wide: true, value: func(v api.Task) string { return when(&v.CreatedAt) }},
	{name: "DUE", wide: true, value: func(v api.Task) string { return when(v.DueAt) }},
	{name: "NOT-AFTER", wide: true, value: func(v api.Task) string { return when(v.NotAfter) }},
	{name: "STARTED", wide: true, value: func(v api.Task) string { return when(v.StartedAt) }},
	{name: "FINISHED", wide: true, value: func(v api.Task) string { return when(v.FinishedAt) }},
	{name: "CANCEL", wide: true, value: cancelWords},
	{name: "ERROR", wide: true, long: true, value: func(v api.Task) string {
		if v.Error == nil {
			return ""
		}
		return v.Error.Code + ": " + v.Error.Message
	}},
	{name: "MESSAGE", wide: true, long: true, value: func(v api.Task) string { return v.Input.Message }},
	{name: "RESULT", wide: true, long: true, value: func(v api.Task) string {
		if v.Result == nil {
			return ""
		}
		return v.Result.Text
	}},
}

// taskTexts are the columns that lists leave out unless they are asked for.
var taskTexts = []string{"MESSAGE", "RESULT"}

func took(v api.Task) string {
	if v.StartedAt == nil {
		return ""
	}
	if v.FinishedAt == nil {
		return age(time.Since(*v.StartedAt))
	}
	return age(v.FinishedAt.Sub(*v.StartedAt))
}

// cancelWords says truthfully what is known of a cancel.
func cancelWords(v api.Task) string {
	if v.Cancel.RequestedAt == nil {
		return ""
	}
	words := "requested at " + when(v.Cancel.RequestedAt)
	if r := deref(v.Cancel.Reason); r != "" {
		words += " (" + r + ")"
	}
	switch {
	case v.Cancel.Confirmed == nil:
		return words + "; not known yet whether the run stopped"
	case *v.Cancel.Confirmed:
		return words + "; the run surely stopped"
	}
	return words + "; the gateway did not confirm the stop in time"
}

func labels(m map[string]string) string {
	parts := make([]string, 0, len(m))
	for _, k := range sortedKeys(m) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, ",")
}

// taskFilter is the flags that choose tasks.
type taskFilter struct {
	state                                           []string
	priority, session, gateway, pool, tenant, label string
}

func (f *taskFilter) addFlags(t *terminal, c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.priority, "priority", "", "only this priority: critical, high, medium, low")
	fs.StringVar(&f.session, "session", "", "only tasks of this session")
	fs.StringVar(&f.gateway, "gateway", "", "only tasks that this gateway has or had")
	fs.StringVar(&f.pool, "pool", "", "only tasks of this pool")
	fs.StringVar(&f.tenant, "tenant", "", "only tasks of this tenant")
	fs.StringVar(&f.label, "label", "", "only tasks with this label: name, name=value or name:value")
	completeFlags(c, map[string]cobra.CompletionFunc{
		"priority": completePriority, "session": completeSessions(t), "gateway": completeGateways(t), "pool": completePools(t),
	})
}

// labelQuery is --label as the API wants it; people write it as they gave it
// to `dash task submit`.
func (f *taskFilter) labelQuery() string {
	name, value, ok := strings.Cut(f.label, "=")
	if !ok || strings.Contains(name, ":") {
		return f.label
	}
	return name + ":" + value
}

func completePriority(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"critical", "high", "medium", "low"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

func taskListCommand(t *terminal) *cobra.Command {
	var f taskFilter
	var limit int
	var flags *cobra.Command
	c := &cobra.Command{
		Use: "list", Short: "List tasks, newest first",
		Example: "  dash task list\n  dash task list --state queued,running --priority high -o wide\n  dash task list --state dead_letter --limit 0 -o jsonl",
	}
	c = verb(t, c, taskColumns, func(ctx context.Context, c *client, o output, _ []string) error {
		if o.format == "name" && !flags.Flags().Changed("limit") {
			limit = 0 // for a pipe: what acts on the names must miss none
		}
		q := query("state", strings.Join(f.state, ","), "priority", f.priority, "session", f.session, "gateway", f.gateway,
			"pool", f.pool, "tenant", f.tenant, "label", f.labelQuery())
		if o.shows(taskTexts...) {
			q.Set("include", string(api.ListTasksParamsIncludeBodies))
		}
		items, more, err := listAll[api.Task](ctx, c, "/tasks", q, limit)
		if err != nil {
			return err
		}
		if err := printList(t, o, taskColumns, items); err != nil {
			return err
		}
		if more {
			fmt.Fprintf(t.err, "the newest %d are shown; --limit 0 shows all\n", limit)
		}
		return nil
	})
	flags = c
	c.Flags().StringSliceVar(&f.state, "state", nil, "only these states: "+strings.Join(messages.TaskStateNames(), ", "))
	c.Flags().IntVar(&limit, "limit", 50, "at most this many; 0 for all, which is the default of -o name")
	f.addFlags(t, c)
	completeFlags(c, map[string]cobra.CompletionFunc{"state": cobra.FixedCompletions(messages.TaskStateNames(), cobra.ShellCompDirectiveNoFileComp)})
	return c
}

func taskShowCommand(t *terminal) *cobra.Command {
	return verb(t, &cobra.Command{
		Use: "show ID", Short: "Show one task", Args: exactArgs("a task id"), ValidArgsFunction: completeTasks(t, actsOn{}),
		Example: "  dash task show 0199a2b4-6f00-7c11-9a55-3c1f2d9e8b77\n  dash task show 8b77 -o json",
	}, taskColumns, func(ctx context.Context, c *client, o output, args []string) error {
		id, err := taskID(ctx, c, args[0], actsOn{})
		if err != nil {
			return err
		}
		var task api.Task
		if err := c.call(ctx, get("/tasks/"+id, nil), &task); err != nil {
			return err
		}
		if err := printOne(t, o, taskColumns, task); err != nil {
			return err
		}
		if o.format == "table" {
			tellTrials(t, task)
		}
		if task.State == api.TaskStateHeld && o.format == "table" {
			fmt.Fprintf(t.err, "its gateway was lost and it is not known whether the task ran; after 24 hours it becomes a dead letter\n  next: %s\n", fmt.Sprintf(next.ReleaseTask, clean(id)))
		}
		return nil
	})
}

// tellTrials says what the task went through without using attempts.
func tellTrials(t *terminal, task api.Task) {
	if n := task.Deaths; n > 0 {
		more := ""
		if n >= messages.SuspectAfter && task.FinishedAt == nil {
			more = "; it runs alone on its gateway, and is a dead letter if that dies again"
		}
		fmt.Fprintf(t.err, "its gateway died %d times while it was at work on it%s\n", n, more)
	}
	if n := task.PlannedStops; n > 0 {
		fmt.Fprintf(t.err, "its gateway was stopped or restarted in an orderly way %d times while it was at work on it; after %d times each counts as a death\n", n, messages.MaxStops)
	}
	if n := task.GivenBack; n > 0 {
		fmt.Fprintf(t.err, "its attempt was given back %d times (the gateway refused it, got nothing of it, or was away); after %d times each counts\n", n, messages.MaxGivenBack)
	}
}

func taskLogsCommand(t *terminal) *cobra.Command {
	return verb(t, &cobra.Command{
		Use: "logs ID", Short: "Follow a task's run until it ends", Args: exactArgs("a task id"), ValidArgsFunction: completeTasks(t, actsOn{}),
		Long: "Shows changes of state and the text so far on stderr, and the result on stdout when the\n" +
			"task ends. Ctrl-C detaches and leaves the task alone. Exits 0 only when the task succeeded.",
		Example: "  dash task logs 8b77\n  dash task logs 8b77 2>/dev/null >result.txt",
	}, taskColumns, func(ctx context.Context, c *client, o output, args []string) error {
		id, err := taskID(ctx, c, args[0], actsOn{})
		if err != nil {
			return err
		}
		task, shown, err := watchTask(ctx, t, c, id)
		if err != nil {
			return err
		}
		return settle(t, o, task, shown)
	})
}

func taskCancelCommand(t *terminal) *cobra.Command {
	var reason string
	c := verb(t, &cobra.Command{
		Use: "cancel ID…", Short: "Cancel tasks; the wish reaches a running agent", Args: someArgs("task ids"), ValidArgsFunction: completeTasks(t, openTasks),
		Example: "  dash task cancel 8b77 --reason 'no longer needed'\n  dash task list --session s-1 --state queued -o name | xargs -r dash task cancel",
	}, taskColumns, func(ctx context.Context, c *client, o output, args []string) error {
		var done []api.Task
		err := each(ctx, t, args, func(short string) error {
			id, err := taskID(ctx, c, short, openTasks)
			if err != nil {
				return err
			}
			var task api.Task
			if err := c.call(ctx, post("/tasks/"+id+"/cancel", api.CancelTask{Reason: opt(reason)}), &task); err != nil {
				return err
			}
			if task.FinishedAt == nil {
				fmt.Fprintf(t.err, "task %s was asked to stop; %s\n", clean(id), fmt.Sprintf(next.TellsStopped, clean(id)))
			}
			done = append(done, task)
			return nil
		})
		return printDone(t, o, taskColumns, done, err)
	})
	c.Flags().StringVar(&reason, "reason", "", "why; kept with the task")
	return c
}

func taskReleaseCommand(t *terminal) *cobra.Command {
	var requeue, fail bool
	c := verb(t, &cobra.Command{
		Use: "release ID…", Short: "Decide about held tasks: run again or give up", Args: someArgs("task ids"), ValidArgsFunction: completeTasks(t, heldTasks),
		Long:    "A task is held when its gateway was lost, it is not known whether it ran, and its\non_unknown is hold. --requeue runs it again (it may then have run twice).",
		Example: "  dash task release 8b77 --requeue\n  dash task release 8b77 --fail",
	}, taskColumns, func(ctx context.Context, c *client, o output, args []string) error {
		action := api.ReleaseTaskActionRequeue
		if fail {
			action = api.ReleaseTaskActionFail
		}
		var done []api.Task
		err := each(ctx, t, args, func(short string) error {
			id, err := taskID(ctx, c, short, heldTasks)
			if err != nil {
				return err
			}
			var task api.Task
			if err := c.call(ctx, post("/tasks/"+id+"/release", api.ReleaseTask{Action: action}), &task); err != nil {
				return err
			}
			done = append(done, task)
			return nil
		})
		return printDone(t, o, taskColumns, done, err)
	})
	c.Flags().BoolVar(&requeue, "requeue", false, "run it again")
	c.Flags().BoolVar(&fail, "fail", false, "make it a dead letter")
	c.MarkFlagsOneRequired("requeue", "fail")
	c.MarkFlagsMutuallyExclusive("requeue", "fail")
	return c
}

// printDone prints what succeeded and keeps the error of what did not.
func printDone[T any](t *terminal, o output, columns []column[T], done []T, err error) error {
	if len(done) == 0 {
		return err
	}
	if printErr := printList(t, o, columns, done); printErr != nil {
		return printErr
	}
	return err
}

func taskReplayCommand(t *terminal) *cobra.Command {
	var f taskFilter
	var all, dryRun, yes bool
	var code string
	c := verb(t, &cobra.Command{
		Use: "replay [ID…]", Short: "Put dead letters back into the queue, singly or by filter", ValidArgsFunction: completeTasks(t, deadLetters), Args: cobra.ArbitraryArgs,
		Long:    "With ids: these tasks. With --all or a filter: every dead letter that matches; how many\nthat are is shown first, and nothing else happens with --dry-run.",
		Example: "  dash task replay 8b77\n  dash task replay --code provider_unavailable --dry-run\n  dash task replay --pool batch --yes",
	}, taskColumns, func(ctx context.Context, c *client, o output, args []string) error {
		byFilter := all || code != "" || f.priority+f.session+f.gateway+f.pool+f.tenant+f.label != ""
		switch {
		case len(args) > 0 && byFilter:
			return usage(next.OneOrOther, "dash task replay takes ids or a filter, not both")
		case len(args) == 0 && !byFilter:
			return usage(next.GiveIDsOrFilter, "dash task replay does not know which dead letters are meant")
		case byFilter:
			return replayAll(ctx, t, c, o, f.deadLetters(code), dryRun, yes)
		case dryRun:
			return usage(next.LeaveDryRunOut, "--dry-run belongs to a filter, not to ids")
		}
		var done []api.Task
		err := each(ctx, t, args, func(short string) error {
			id, err := taskID(ctx, c, short, deadLetters)
			if err != nil {
				return err
			}
			var task api.Task
			if err := c.call(ctx, post("/tasks/"+id+"/replay", nil), &task); err != nil {
				return err
			}
			done = append(done, task)
			return nil
		})
		return printDone(t, o, taskColumns, done, err)
	})
	f.addFlags(t, c)
	c.Flags().StringVar(&code, "code", "", "only dead letters whose error has this code")
	c.Flags().BoolVar(&all, "all", false, "every dead letter")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only count")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func replayAll(ctx context.Context, t *terminal, c *client, o output, filter api.DeadLetterFilter, dryRun, yes bool) error {
	var r api.ReplayedDeadLetters
	yesDry := true
	count := post("/dead-letters/replay", api.ReplayDeadLetters{Filter: filter, DryRun: &yesDry})
	count.durable = true // it changes nothing
	if err := c.call(ctx, count, &r); err != nil {
		return err
	}
	if dryRun || r.Matched == 0 {
		return printReplayed(t, o, r, fmt.Sprintf("%d dead letters match\n", r.Matched))
	}
	if err := confirm(ctx, t, yes, fmt.Sprintf("%d dead letters will be queued again", r.Matched), fmt.Sprint(r.Matched)); err != nil {
		return err
	}
	call := post("/dead-letters/replay", api.ReplayDeadLetters{Filter: filter})
	call.wait = 5 * time.Minute // many thousands in small batches
	if err := c.call(ctx, call, &r); err != nil {
		return err
	}
	if err := printReplayed(t, o, r, fmt.Sprintf("%d of %d dead letters were queued again\n", r.Replayed, r.Matched)); err != nil {
		return err
	}
	if r.Replayed < r.Matched {
		return &failure{code: exitPartial, what: fmt.Sprintf("%d dead letters are left: the queue is full", r.Matched-r.Replayed), next: next.RepeatWhenRoom}
	}
	return nil
}

// replayedColumns are the counts of a replay by filter; as a table they are a
// sentence.
var replayedColumns = []column[api.ReplayedDeadLetters]{
	{name: "MATCHED", value: func(v api.ReplayedDeadLetters) string { return fmt.Sprint(v.Matched) }},
	{name: "REPLAYED", value: func(v api.ReplayedDeadLetters) string { return fmt.Sprint(v.Replayed) }},
}

func printReplayed(t *terminal, o output, r api.ReplayedDeadLetters, sentence string) error {
	if o.format == "table" || o.format == "wide" {
		return write(t, sentence)
	}
	o.columns = nil // those that can be named are a task's
	return printOne(t, o, replayedColumns, r)
}

func (f taskFilter) deadLetters(code string) api.DeadLetterFilter {
	return api.DeadLetterFilter{
		Code: opt(code), Gateway: opt(f.gateway), Label: opt(f.labelQuery()), Pool: opt(f.pool),
		Priority: opt(api.Priority(f.priority)), Session: opt(f.session), Tenant: opt(f.tenant),
	}
}
