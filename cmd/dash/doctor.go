package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages/next"
)

// oldQueue is when a waiting task is worth a word: with strict order the lower
// classes may wait for long, but an operator should know.
const oldQueue = 5 * time.Minute

// finding is what one check of `dash doctor` found.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"` // ok, warn or fail
	Detail string `json:"detail"`
	Next   string `json:"next_step,omitempty"`
	// code is the exit code this finding asks for; 0 for ok and warn.
	code int
}

var findingColumns = []column[finding]{
	{name: "CHECK", value: func(f finding) string { return f.Check }},
	{name: "RESULT", value: func(f finding) string { return f.Result }},
	{name: "DETAIL", value: func(f finding) string { return f.Detail }},
	{name: "NEXT", wide: true, value: func(f finding) string { return f.Next }},
}

func doctorCommand(t *terminal) *cobra.Command {
	return verb(t, &cobra.Command{
		Use: "doctor", Short: "Check a node and its fleet, and show what to do",
		Long: "Checks that the node answers, that the key is valid, that the node and its store can take\nwork, the state of every gateway, and how long tasks wait.\n" +
			"Exits 0 when nothing failed, 6 when the node is unavailable, 5 when the key is refused, else 1.",
		Example: "  dash doctor\n  dash doctor -o json",
	}, findingColumns, func(ctx context.Context, c *client, o output, _ []string) error {
		found := examine(ctx, c)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := printList(t, o, findingColumns, found); err != nil {
			return err
		}
		if o.format == "table" && len(o.columns) == 0 {
			advise(t, found)
		}
		failed := slices.DeleteFunc(slices.Clone(found), func(f finding) bool { return f.code == 0 })
		if len(failed) == 0 {
			return nil
		}
		// What stands first explains what comes after it.
		return quietExit(failed[0].code)
	})
}

// advise says on stderr, in full, what is wrong and what to do: a table cuts
// long texts at the terminal's width.
func advise(t *terminal, found []finding) {
	for _, f := range found {
		if f.Result != "ok" {
			report(t.err, &failure{what: f.Check + ": " + f.Detail, next: f.Next})
		}
	}
}

// examine runs the checks; later ones need the earlier ones.
func examine(ctx context.Context, c *client) []finding {
	quick, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	health, found, err := c.living(quick)
	if err != nil {
		return append(found, failedCheck("node", err))
	}
	detail := fmt.Sprintf("%s answers, version %s", c.base, health.Version)
	if health.Version != version {
		detail += ", this binary is " + version
	}
	found = append(found, finding{Check: "node", Result: "ok", Detail: detail})

	var nodes api.NodeList
	if err := c.call(ctx, get("/nodes", nil), &nodes); err != nil {
		found = append(found, failedCheck("api key", err))
		if exitCode(err) == exitUnavailable {
			// Nobody could look the key up; readiness needs none and says why.
			found = append(found, c.readiness(ctx)...)
		}
		return found
	}
	found = append(found, finding{Check: "api key", Result: "ok", Detail: "accepted"})
	found = append(found, c.readiness(ctx)...)
	q, _, queued := listAll[api.QueueClass](ctx, c, "/queue", nil, 0)
	found = append(found, c.gatewayFindings(ctx, q)...)
	if queued != nil {
		found = append(found, failedCheck("queue", queued))
	} else {
		found = append(found, queueFindings(q)...)
	}
	return append(found, c.taskFindings(ctx)...)
}

// living goes on to the first address where a node answers, and warns of those
// before it.
func (c *client) living(ctx context.Context) (*api.Health, []finding, error) {
	var dead []finding
	for n := 0; ; n++ {
		at := c.base
		health, err := c.api.GetLive(ctx)
		if err == nil {
			return health, dead, nil
		}
		told := c.told(err)
		if !verdictOf(err).unreached || !c.other(n) {
			return nil, nil, told
		}
		dead = append(dead, finding{Check: "node", Result: "warn", Detail: "no Dash node answers at " + at, Next: next.StartNode})
	}
}

func failedCheck(check string, err error) finding {
	f := finding{Check: check, Result: "fail", Detail: err.Error(), code: exitCode(err)}
	var told *failure
	if errors.As(err, &told) {
		f.Detail, f.Next = told.what, told.next
	}
	if f.code == 0 {
		f.code = exitFailed
	}
	return f
}

// warningSteps are the next steps of checks that warn and take no work away.
var warningSteps = map[string]string{
	"certificate": next.RenewCertificate, "keys": next.MakeSuccessors, "descriptors": next.RaiseDescriptors, "backup": next.LookAtNodeLog,
	"exposure": next.ShutNode,
}

func (c *client) readiness(ctx context.Context) []finding {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	health, err := c.api.GetReady(ctx)
	if err != nil {
		return []finding{failedCheck("ready", c.told(err))}
	}
	var found []finding
	for _, check := range deref(health.Checks) {
		f := finding{Check: check.Name, Result: "ok", Detail: deref(check.Detail)}
		if why, warns := strings.CutPrefix(f.Detail, "warning: "); warns && check.Ok {
			f.Result, f.Detail, f.Next = "warn", why, warningSteps[f.Check]
		}
		if !check.Ok {
			f.Result, f.code, f.Next = "fail", exitUnavailable, next.LookAtNodeLog
			switch f.Check {
			case "ownership":
				f.Next = next.AskWorkingNode
			case "store", "lease":
				f.Next = next.LookAtStoreServer
			}
		}
		found = append(found, f)
	}
	if health.Status != api.HealthStatusOk {
		return append(found, finding{Check: "ready", Result: "fail", Detail: "the node takes no work now", Next: next.SeeFailedChecks, code: exitUnavailable})
	}
	return append(found, finding{Check: "ready", Result: "ok", Detail: "the node takes work"})
}

// gatewayFindings takes a queue without classes where it could not be read.
func (c *client) gatewayFindings(ctx context.Context, q []api.QueueClass) []finding {
	all, _, err := listAll[api.Gateway](ctx, c, "/gateways", nil, 0)
	if err != nil {
		return []finding{failedCheck("gateways", err)}
	}
	if len(all) == 0 {
		return []finding{{Check: "gateways", Result: "fail", Detail: "there is none, so every task waits", Next: next.AddGatewayHelp, code: exitFailed}}
	}
	var found []finding
	working := 0
	pools := map[string]bool{}
	for _, g := range all {
		f := finding{Check: "gateway " + g.Id, Detail: strings.TrimSuffix(string(g.State)+": "+deref(g.Reason), ": "), Next: deref(g.NextStep)}
		pools[g.Pool] = true
		switch g.State {
		case api.GatewayStateReady:
			working++
			continue
		case api.GatewayStateDegraded:
			working++
			f.Result = "warn"
		case api.GatewayStateQuarantined, api.GatewayStateUnreachable:
			f.Result, f.code = "fail", exitFailed
		default:
			f.Result = "warn"
		}
		found = append(found, f)
	}
	sum := finding{Check: "gateways", Result: "ok", Detail: fmt.Sprintf("%d of %d take work", working, len(all))}
	if working == 0 {
		sum.Result, sum.code, sum.Next = "fail", exitFailed, next.SeeBelow
	}
	return append(append([]finding{sum}, found...), emptyPools(q, pools)...)
}

// emptyPools are pools whose tasks wait for a gateway that nobody has added.
func emptyPools(q []api.QueueClass, served map[string]bool) (found []finding) {
	waiting, tenant := map[string]int{}, map[string]string{}
	for _, class := range q {
		waiting[class.Pool] += class.Depth
		tenant[class.Pool] = class.Tenant
	}
	for _, pool := range sortedKeys(waiting) {
		if served[pool] {
			continue
		}
		f := finding{Check: "pool " + pool, Result: "warn", Detail: "it has no gateway", Next: fmt.Sprintf(next.AddGatewayToPool, pool, tenant[pool])}
		if n := waiting[pool]; n > 0 {
			f.Result, f.code, f.Detail = "fail", exitFailed, fmt.Sprintf("it has no gateway, and %d tasks wait for one", n)
		}
		found = append(found, f)
	}
	return found
}

// mostLooked is how many tasks of a state are read to count and judge them.
const mostLooked = 200

// taskFindings are tasks that wait for a person.
func (c *client) taskFindings(ctx context.Context) (found []finding) {
	for _, look := range []struct{ state, words, advice string }{
		{"held", "held: it is not known whether they ran; each becomes a dead letter after 24 hours", next.DecideHeld},
		{"dead_letter", "dead letters", next.LookAtDeadLetters},
		{"queued", "", ""}, // it is no fault to wait
	} {
		items, more, err := listAll[api.Task](ctx, c, "/tasks", query("state", look.state), mostLooked)
		switch {
		case err != nil:
			return append(found, failedCheck("tasks "+look.state, err))
		case look.words == "":
			found = append(found, unservedTasks(items)...)
		case len(items) > 0:
			found = append(found, finding{Check: "tasks " + look.state, Result: "warn", Detail: atLeast(len(items), more) + " " + look.words, Next: look.advice})
		}
	}
	return found
}

func atLeast(n int, more bool) string {
	if more {
		return fmt.Sprintf("%d or more", n)
	}
	return fmt.Sprint(n)
}

// unservedTasks are those of the newest waiting tasks that no gateway can run, by reason.
// Pools without any gateway have a check of their own.
func unservedTasks(newest []api.Task) (found []finding) {
	count := map[string]int{}
	for _, t := range newest {
		reason := deref(t.WaitingReason)
		if deref(t.WaitingCode) == api.TaskWaitingCodeNoGateway && !strings.HasSuffix(reason, fmt.Sprintf(next.AddGatewayToPool, t.Pool, t.Tenant)) {
			count[reason]++
		}
	}
	for _, reason := range sortedKeys(count) {
		what, advice, _ := strings.Cut(reason, ": ")
		found = append(found, finding{
			Check: "tasks unserved", Result: "warn", Next: advice,
			Detail: fmt.Sprintf("%d of the newest %d that wait, %s", count[reason], len(newest), what),
		})
	}
	return found
}

func queueFindings(q []api.QueueClass) []finding {
	var found []finding
	depth, running := 0, 0
	for _, class := range q {
		depth, running = depth+class.Depth, running+class.Running
		name := fmt.Sprintf("queue %s/%s", class.Pool, class.Class)
		if class.Warning != nil {
			found = append(found, finding{Check: name, Result: "warn", Detail: *class.Warning, Next: fmt.Sprintf(next.AddOrReserveLess, class.Pool)})
		}
		if class.Limits.Count > 0 && class.Depth >= class.Limits.Count {
			found = append(found, finding{Check: name, Result: "fail", Detail: fmt.Sprintf("full: %d tasks wait, more are answered with 429", class.Depth), Next: fmt.Sprintf(next.AddGatewaysOrLimit, class.Pool, class.Class), code: exitFailed})
		} else if oldest := seconds(class.OldestAgeSeconds); oldest > oldQueue {
			found = append(found, finding{Check: name, Result: "warn", Detail: fmt.Sprintf("the oldest of %d tasks waits for %s", class.Depth, age(oldest)), Next: next.AddGatewaysOrReserved})
		}
	}
	return append([]finding{{Check: "queue", Result: "ok", Detail: fmt.Sprintf("%d wait, %d run", depth, running)}}, found...)
}
