package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// maxMessage is the API's limit of a message, in bytes.
const maxMessage = 256 << 10

// submission is the flags of `dash task submit`.
type submission struct {
	priority, message, session, pool, tenant, model, onUnknown, region, key string
	timeout, delay                                                          time.Duration
	dueAt, notAfter                                                         string
	maxAttempts                                                             int32
	capabilities, labels                                                    []string
	wait                                                                    bool
}

func submitCommand(t *terminal) *cobra.Command {
	var s submission
	c := &cobra.Command{
		Use: "submit", Short: "Submit a task",
		Long: "Prints the accepted task; with --wait it follows the run (progress on stderr), prints the\n" +
			"result on stdout and exits 0 only when the task succeeded. Ctrl-C then detaches: the task\n" +
			"continues, and the command prints how to attach again. Without --message the text is read\nfrom stdin.",
		Example: "  dash task submit --priority critical --message 'Summarise the incident.' --wait\n" +
			"  dash task submit --session s-1 --message 'And in French?' -o name\n" +
			"  git diff | dash task submit --priority low --label kind=review",
	}
	c = verb(t, c, taskColumns, func(ctx context.Context, c *client, o output, _ []string) error {
		return submit(ctx, t, c, o, s)
	})
	fs := c.Flags()
	fs.StringVar(&s.message, "message", "", "message to the agent; - or nothing reads stdin")
	fs.StringVar(&s.priority, "priority", "medium", "critical, high, medium or low")
	fs.StringVar(&s.session, "session", "", "session whose next turn this is")
	fs.StringVar(&s.pool, "pool", "", "pool of gateways that may run it; left out: that of the session, else its tenant's own")
	fs.StringVar(&s.tenant, "tenant", "", "tenant it belongs to")
	fs.StringVar(&s.model, "model", "", "model to use, as the gateway names it")
	fs.DurationVar(&s.timeout, "timeout", 0, "run deadline of one attempt, in whole seconds (default 10m)")
	fs.DurationVar(&s.delay, "delay", 0, "not before this long from now; 0: at once")
	fs.StringVar(&s.dueAt, "due-at", "", "not before this time (RFC 3339)")
	fs.StringVar(&s.notAfter, "not-after", "", "expires when not assigned before this time (RFC 3339)")
	fs.Int32Var(&s.maxAttempts, "max-attempts", 0, "attempts before it becomes a dead letter (default 3)")
	fs.StringVar(&s.onUnknown, "on-unknown", "", "when its gateway is lost: requeue (at least once) or hold (at most once)")
	fs.StringSliceVar(&s.capabilities, "capability", nil, "capability the gateway must have; repeatable")
	fs.StringVar(&s.region, "region", "", "region the gateway must be in")
	fs.StringArrayVar(&s.labels, "label", nil, "label as name=value; repeatable")
	fs.StringVar(&s.key, "idempotency-key", "", "the same key with the same task is accepted once")
	fs.BoolVar(&s.wait, "wait", false, "follow the run and print its result")
	c.MarkFlagsMutuallyExclusive("due-at", "delay")
	completeFlags(c, map[string]cobra.CompletionFunc{
		"priority": completePriority, "session": completeSessions(t), "pool": completePools(t),
		"on-unknown": cobra.FixedCompletions([]string{"requeue", "hold"}, cobra.ShellCompDirectiveNoFileComp),
	})
	return c
}

func submit(ctx context.Context, t *terminal, c *client, o output, s submission) error {
	body, err := s.body(t)
	if err != nil {
		return err
	}
	call := submitting("/tasks", body, s.key)
	var task api.Task
	if err := c.call(ctx, call, &task); err != nil {
		return err
	}
	if c.last.header.Get("Idempotent-Replayed") == "true" {
		fmt.Fprintf(t.err, "this idempotency key named task %s already\n", clean(task.Id))
	}
	if !s.wait {
		return printList(t, o, taskColumns, []api.Task{task})
	}
	final, shown, err := watchTask(ctx, t, c, task.Id)
	if err != nil {
		return err
	}
	return settle(t, o, final, shown)
}

func (s submission) body(t *terminal) (api.SubmitTask, error) {
	var none api.SubmitTask
	if !slices.Contains([]string{"critical", "high", "medium", "low"}, s.priority) {
		return none, usage(next.UsePriority, "there is no priority %q", s.priority)
	}
	message, err := readMessage(t, s.message)
	if err != nil {
		return none, err
	}
	marks, err := pairs("label", s.labels)
	if err != nil {
		return none, err
	}
	if s.timeout%time.Second != 0 || s.timeout < 0 {
		return none, usage(next.WholeSeconds, "--timeout %s is not a whole number of seconds", s.timeout)
	}
	body := api.SubmitTask{
		Priority: api.Priority(s.priority),
		Input:    api.SubmitInput{Message: message, Model: opt(s.model), TimeoutSeconds: opt(int64(s.timeout / time.Second))},
		Session:  opt(s.session), Pool: opt(s.pool), Tenant: opt(s.tenant),
		DelaySeconds: opt(s.delay.Seconds()), MaxAttempts: opt(s.maxAttempts), OnUnknown: opt(api.OnUnknown(s.onUnknown)),
	}
	if body.DueAt, err = parseTime("due-at", s.dueAt); err != nil {
		return none, err
	}
	if body.NotAfter, err = parseTime("not-after", s.notAfter); err != nil {
		return none, err
	}
	if len(marks) > 0 {
		body.Labels = &marks
	}
	if len(s.capabilities) > 0 || s.region != "" {
		body.Requires = &api.SubmitRequires{Region: opt(s.region)}
		if len(s.capabilities) > 0 {
			body.Requires.Capabilities = &s.capabilities
		}
	}
	return body, nil
}

// readMessage returns the text given by flag, or all of stdin.
func readMessage(t *terminal, flag string) (string, error) {
	text := flag
	if flag == "" || flag == "-" {
		if flag == "" && t.asks {
			return "", usage(next.GiveMessageOrType, "there is no message")
		}
		raw, err := io.ReadAll(io.LimitReader(t.in, maxMessage+1))
		if err != nil {
			return "", fmt.Errorf("read the message from stdin: %w", err)
		}
		text = string(raw)
	}
	switch {
	case text == "":
		return "", usage(next.GiveMessageOrStdin, "there is no message")
	case len(text) > maxMessage:
		return "", usage(next.ShortenMessage, "the message is longer than %d KiB", maxMessage>>10)
	case !utf8.ValidString(text):
		return "", usage(next.ConvertToUTF8, "the message is not valid UTF-8")
	}
	return text, nil
}

func parseTime(flag, text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return nil, usage(fmt.Sprintf(next.WriteMomentAs, messages.Now().Format(time.RFC3339)), "--%s %q is not a time in RFC 3339", flag, text)
	}
	return &at, nil
}
