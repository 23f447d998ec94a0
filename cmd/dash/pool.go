package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages/next"
)

func poolCommand(t *terminal) *cobra.Command {
	return noun("pool", "Set limits of pools: gateways that compete for the same work", poolListCommand(t), poolShowCommand(t), poolSetCommand(t), poolRemoveCommand(t))
}

var classNames = []string{"critical", "high", "medium", "low"}

var poolColumns = []column[api.Pool]{
	{name: "ID", value: func(v api.Pool) string { return v.Id }},
	{name: "TENANT", value: func(v api.Pool) string { return v.Tenant }},
	{name: "MAX", value: func(v api.Pool) string { return zeroAs(v.MaxConcurrency, "no cap") }},
	{name: "LIMITS", value: func(v api.Pool) string {
		return perClass(func(class string) string { return fmt.Sprint(limitOf(v, class).Count) })
	}},
	{name: "RESERVED", value: func(v api.Pool) string {
		return perClass(func(class string) string { return number(*reservedSlot(&v.Reserved, class)) })
	}},
	{name: "AGING", value: func(v api.Pool) string {
		if v.AgingSeconds == 0 {
			return "strict"
		}
		return fmt.Sprintf("%ds", v.AgingSeconds)
	}},
	{name: "AWAY", value: func(v api.Pool) string { return fmt.Sprintf("%ds", v.AwaySeconds) }},
	{name: "BYTES", wide: true, value: func(v api.Pool) string {
		return perClass(func(class string) string { return fmt.Sprint(limitOf(v, class).Bytes) })
	}},
	{name: "VERSION", wide: true, value: func(v api.Pool) string { return fmt.Sprint(v.Version) }},
	{name: "CREATED", wide: true, value: func(v api.Pool) string { return when(v.CreatedAt) }},
}

func zeroAs(n int, word string) string {
	if n == 0 {
		return word
	}
	return fmt.Sprint(n)
}

func perClass(value func(class string) string) string {
	var parts []string
	for _, class := range classNames {
		if v := value(class); v != "" && v != "0" {
			parts = append(parts, class+"="+v)
		}
	}
	return strings.Join(parts, " ")
}

func limitOf(p api.Pool, class string) api.ClassLimit {
	return map[string]api.ClassLimit{"critical": p.Limits.Critical, "high": p.Limits.High, "medium": p.Limits.Medium, "low": p.Limits.Low}[class]
}

func reservedSlot(r *api.Reserved, class string) **int {
	return map[string]**int{"critical": &r.Critical, "high": &r.High, "medium": &r.Medium, "low": &r.Low}[class]
}

func limitSlot(l *api.PutLimits, class string) **api.PutClassLimit {
	return map[string]**api.PutClassLimit{"critical": &l.Critical, "high": &l.High, "medium": &l.Medium, "low": &l.Low}[class]
}

func poolListCommand(t *terminal) *cobra.Command {
	return verb(t, &cobra.Command{Use: "list", Short: "List pools", Example: "  dash pool list"},
		poolColumns, func(ctx context.Context, c *client, o output, _ []string) error {
			items, _, err := listAll[api.Pool](ctx, c, "/pools", nil, 0)
			if err != nil {
				return err
			}
			return printList(t, o, poolColumns, items)
		})
}

func poolPath(id string) string { return "/pools/" + url.PathEscape(id) }

func poolShowCommand(t *terminal) *cobra.Command {
	var queue bool
	c := verb(t, &cobra.Command{
		Use: "show ID", Short: "Show a pool's limits, or what waits in it", Args: exactArgs("a pool id"), ValidArgsFunction: completePools(t),
		Example: "  dash pool show default\n  dash pool show default --queue",
	}, poolColumns, func(ctx context.Context, c *client, o output, args []string) error {
		if _, err := resolve(ctx, "pool", args[0], true, nil); err != nil {
			return err
		}
		if queue {
			classes, _, err := listAll[api.QueueClass](ctx, c, "/queue", query("pool", args[0]), 0)
			if err != nil {
				return err
			}
			return printList(t, o, queueColumns, classes)
		}
		var p api.Pool
		if err := c.call(ctx, get(poolPath(args[0]), nil), &p); err != nil {
			return err
		}
		return printOne(t, o, poolColumns, p)
	})
	c.Flags().BoolVar(&queue, "queue", false, "what waits and runs, per class")
	return c
}

var queueColumns = []column[api.QueueClass]{
	{name: "CLASS", value: func(v api.QueueClass) string { return string(v.Class) }},
	{name: "POOL", value: func(v api.QueueClass) string { return v.Pool }},
	{name: "DEPTH", value: func(v api.QueueClass) string { return fmt.Sprint(v.Depth) }},
	{name: "RUNNING", value: func(v api.QueueClass) string { return fmt.Sprint(v.Running) }},
	{name: "OLDEST", value: func(v api.QueueClass) string { return age(seconds(v.OldestAgeSeconds)) }},
	{name: "LIMIT", value: func(v api.QueueClass) string { return fmt.Sprint(v.Limits.Count) }},
	{name: "BYTES", wide: true, value: func(v api.QueueClass) string { return fmt.Sprintf("%d of %d", v.Bytes, v.Limits.Bytes) }},
	{name: "TENANT", wide: true, value: func(v api.QueueClass) string { return v.Tenant }},
}

// poolChange is the flags of `dash pool set`.
type poolChange struct {
	tenant                      string
	maxConcurrency, aging, away int
	counts, bytes, reserved     []string
}

func poolSetCommand(t *terminal) *cobra.Command {
	var p poolChange
	var flags *cobra.Command
	c := verb(t, &cobra.Command{
		Use: "set ID", Short: "Create a pool or change its limits", Args: exactArgs("a pool id"), ValidArgsFunction: completePools(t),
		Long:    "Only what is given changes. A change by someone else in between is not overwritten: the\ncommand then exits 4.",
		Example: "  dash pool set batch --limit low=1000 --max-concurrency 20\n  dash pool set default --reserved critical=2 --aging 300",
	}, poolColumns, func(ctx context.Context, c *client, o output, args []string) error {
		if _, err := resolve(ctx, "pool", args[0], true, nil); err != nil {
			return err
		}
		body, header, err := p.merge(ctx, c, args[0], flags.Flags().Changed)
		if err != nil {
			return err
		}
		call := request{method: http.MethodPut, path: poolPath(args[0]), body: body, header: header}
		var pool api.Pool
		if err := c.call(ctx, call, &pool); err != nil {
			return err
		}
		return printOne(t, o, poolColumns, pool)
	})
	flags = c
	fs := c.Flags()
	fs.StringVar(&p.tenant, "tenant", "", "tenant of a new pool")
	fs.IntVar(&p.maxConcurrency, "max-concurrency", 0, "runs at once over all its gateways; 0: no cap")
	fs.IntVar(&p.aging, "aging", 0, "seconds a task waits per step upward; 0: strict order")
	fs.IntVar(&p.away, "away", 0, "seconds an unreachable gateway keeps its tasks")
	fs.StringSliceVar(&p.counts, "limit", nil, "tasks that may wait, as class=count; repeatable")
	fs.StringSliceVar(&p.bytes, "limit-bytes", nil, "bytes of their inputs, as class=bytes; repeatable")
	fs.StringSliceVar(&p.reserved, "reserved", nil, "slots kept free, as class=slots; repeatable")
	c.MarkFlagsOneRequired("tenant", "max-concurrency", "aging", "away", "limit", "limit-bytes", "reserved")
	return c
}

func poolRemoveCommand(t *terminal) *cobra.Command {
	var yes, dryRun bool
	c := verb(t, &cobra.Command{
		Use: "remove ID", Short: "Remove a pool that nothing refers to", Args: exactArgs("a pool id"), ValidArgsFunction: completePools(t),
		Long:    "Shows what it would remove and asks for the pool's id. Refused while gateways, tasks\nthat have not ended, or open sessions are in it. Its closed sessions go with it. A\ntenant's own pool stays.",
		Example: "  dash pool remove batch\n  dash pool remove batch --dry-run\n  dash pool remove batch --yes",
	}, poolColumns, func(ctx context.Context, c *client, o output, args []string) error {
		if _, err := resolve(ctx, "pool", args[0], true, nil); err != nil {
			return err
		}
		var p api.Pool
		if err := c.call(ctx, get(poolPath(args[0]), nil), &p); err != nil {
			return err
		}
		plan := fmt.Sprintf("pool %s of tenant %s will be removed, with its limits and its closed sessions, unless something refers to it", p.Id, p.Tenant)
		if dryRun {
			return write(t, plan+"\n")
		}
		if err := confirm(ctx, t, yes, plan, p.Id); err != nil {
			return err
		}
		call := request{method: http.MethodDelete, path: poolPath(p.Id), header: post("", nil).header}
		if err := c.call(ctx, call, nil); err != nil {
			return err
		}
		fmt.Fprintf(t.err, "pool %s is removed\n", clean(p.Id))
		return nil
	})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would happen")
	return c
}

// merge reads the pool as it is and applies the flags that were given.
func (p poolChange) merge(ctx context.Context, c *client, id string, given func(string) bool) (api.PutPool, http.Header, error) {
	body := api.PutPool{Limits: &api.PutLimits{}, Reserved: &api.Reserved{}, Tenant: opt(p.tenant)}
	header := http.Header{"Idempotency-Key": post("", nil).header["Idempotency-Key"]}
	var old api.Pool
	err := c.call(ctx, get(poolPath(id), nil), &old)
	var f *failure
	switch {
	case err == nil:
		if old.Version == 0 { // an own pool of a tenant, before anybody set it
			header.Set("If-None-Match", "*")
		} else {
			header.Set("If-Match", strconv.Quote(fmt.Sprint(old.Version)))
		}
		body.Tenant, body.Reserved = &old.Tenant, &old.Reserved
		body.MaxConcurrency, body.AgingSeconds, body.AwaySeconds = &old.MaxConcurrency, &old.AgingSeconds, &old.AwaySeconds
		for _, class := range classNames {
			l := limitOf(old, class)
			*limitSlot(body.Limits, class) = &api.PutClassLimit{Count: opt(l.Count), Bytes: opt(l.Bytes)}
		}
	case errors.As(err, &f) && f.code == exitNotFound:
		header.Set("If-None-Match", "*")
	default:
		return body, nil, err
	}
	for name, change := range map[string]func(){
		"max-concurrency": func() { body.MaxConcurrency = &p.maxConcurrency },
		"aging":           func() { body.AgingSeconds = &p.aging },
		"away":            func() { body.AwaySeconds = &p.away },
	} {
		if given(name) {
			change()
		}
	}
	return body, header, errors.Join(
		perClassFlag("limit", p.counts, func(class string, n int64) { count := int(n); classLimit(body.Limits, class).Count = &count }),
		perClassFlag("limit-bytes", p.bytes, func(class string, n int64) { classLimit(body.Limits, class).Bytes = &n }),
		perClassFlag("reserved", p.reserved, func(class string, n int64) { slots := int(n); *reservedSlot(body.Reserved, class) = &slots }),
	)
}

func classLimit(l *api.PutLimits, class string) *api.PutClassLimit {
	slot := limitSlot(l, class)
	if *slot == nil {
		*slot = &api.PutClassLimit{}
	}
	return *slot
}

func perClassFlag(flag string, given []string, set func(class string, n int64)) error {
	for _, kv := range given {
		class, text, _ := strings.Cut(kv, "=")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || !slices.Contains(classNames, class) {
			return usage(fmt.Sprintf(next.WriteClassLimit, flag), "--%s %q is not a class and a number", flag, kv)
		}
		set(class, n)
	}
	return nil
}
