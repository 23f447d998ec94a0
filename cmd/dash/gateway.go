package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

func gatewayCommand(t *terminal) *cobra.Command {
	return noun("gateway", "Register and manage gateways",
		gatewayAddCommand(t), gatewayListCommand(t), gatewayShowCommand(t), gatewaySetCommand(t),
		gatewayDrainCommand(t), gatewayResumeCommand(t), gatewayRestartCommand(t), gatewayRemoveCommand(t))
}

var gatewayColumns = []column[api.Gateway]{
	{name: "ID", value: func(v api.Gateway) string { return v.Id }},
	{name: "STATE", value: func(v api.Gateway) string { return string(v.State) }},
	{name: "RUNNING", value: func(v api.Gateway) string { return fmt.Sprintf("%d/%d", v.Running, v.Window) }},
	{name: "POOL", value: func(v api.Gateway) string { return v.Pool }},
	{name: "REGION", value: func(v api.Gateway) string { return deref(v.Region) }},
	{name: "VERSION", wide: true, value: func(v api.Gateway) string { return deref(v.OpenclawVersion) }},
	{name: "SINCE", value: func(v api.Gateway) string {
		if v.Since == nil {
			return ""
		}
		return age(time.Since(*v.Since))
	}},
	{name: "REASON", value: func(v api.Gateway) string { return deref(v.Reason) }},
	{name: "NEXT-STEP", wide: true, value: func(v api.Gateway) string { return deref(v.NextStep) }},
	{name: "URL", wide: true, value: func(v api.Gateway) string { return deref(v.Url) }},
	{name: "MANAGED", wide: true, value: func(v api.Gateway) string {
		if v.Managed == nil {
			return ""
		}
		return strings.TrimSpace("yes " + strings.Join(v.Managed.Command, " "))
	}},
	{name: "CONFIG", wide: true, value: func(v api.Gateway) string {
		if v.Managed == nil {
			return ""
		}
		return string(deref(v.Managed.ConfigState))
	}},
	{name: "WEIGHT", wide: true, value: func(v api.Gateway) string { return fmt.Sprint(v.Weight) }},
	{name: "PORT", wide: true, value: func(v api.Gateway) string {
		if v.Managed == nil {
			return ""
		}
		return number(v.Managed.Port)
	}},
	{name: "PID", wide: true, value: func(v api.Gateway) string { return number(v.Pid) }},
	{name: "MAX", wide: true, value: func(v api.Gateway) string { return fmt.Sprint(v.MaxConcurrency) }},
	{name: "RESTARTS", wide: true, value: func(v api.Gateway) string { return fmt.Sprint(v.Restarts) }},
	{name: "BOOT", wide: true, value: func(v api.Gateway) string { return deref(v.BootId) }},
	{name: "NODE", wide: true, value: func(v api.Gateway) string { return deref(v.Node) }},
	{name: "OWNER", wide: true, value: func(v api.Gateway) string { return deref(v.Owner) }},
	{name: "TENANT", wide: true, value: func(v api.Gateway) string { return v.Tenant }},
	{name: "CAPABILITIES", wide: true, value: func(v api.Gateway) string { return strings.Join(v.Capabilities, ",") }},
	{name: "LABELS", wide: true, value: func(v api.Gateway) string { return labels(v.Labels) }},
}

func number(p *int) string {
	if p == nil {
		return ""
	}
	return fmt.Sprint(*p)
}

func gatewayListCommand(t *terminal) *cobra.Command {
	var state []string
	var pool, tenant string
	c := verb(t, &cobra.Command{
		Use: "list", Short: "List gateways",
		Example: "  dash gateway list\n  dash gateway list --state quarantined,unreachable -o wide\n  dash gateway list --columns id,state,reason",
	}, gatewayColumns, func(ctx context.Context, c *client, o output, _ []string) error {
		items, _, err := listAll[api.Gateway](ctx, c, "/gateways", query("state", strings.Join(state, ","), "pool", pool, "tenant", tenant), 0)
		if err != nil {
			return err
		}
		if err := printList(t, o, gatewayColumns, items); err != nil {
			return err
		}
		adviseGateways(t, o, items)
		return nil
	})
	c.Flags().StringSliceVar(&state, "state", nil, "only these states: "+strings.Join(messages.GatewayStateNames(), ", "))
	c.Flags().StringVar(&pool, "pool", "", "only gateways of this pool")
	c.Flags().StringVar(&tenant, "tenant", "", "only gateways of this tenant")
	completeFlags(c, map[string]cobra.CompletionFunc{
		"pool": completePools(t), "state": cobra.FixedCompletions(messages.GatewayStateNames(), cobra.ShellCompDirectiveNoFileComp),
	})
	return c
}

// advisedGateways bounds the next steps below a list.
const advisedGateways = 5

// adviseGateways says what to do about gateways that take no work, in full: the
// table has no room for it.
func adviseGateways(t *terminal, o output, all []api.Gateway) {
	if o.format != "table" || len(o.columns) > 0 {
		return
	}
	said := 0
	for _, g := range all {
		dead := g.State == api.GatewayStateUnreachable || g.State == api.GatewayStateQuarantined
		if !dead || deref(g.NextStep) == "" {
			continue
		}
		if said++; said > advisedGateways {
			fmt.Fprintf(t.err, "  next: %s\n", next.DoctorForOthers)
			return
		}
		fmt.Fprintf(t.err, "  next for %s: %s\n", clean(g.Id), clean(deref(g.NextStep)))
	}
}

func gatewayShowCommand(t *terminal) *cobra.Command {
	return verb(t, &cobra.Command{
		Use: "show ID", Short: "Show one gateway: its settings, its state, and why", Args: exactArgs("a gateway id"), ValidArgsFunction: completeGateways(t),
		Example: "  dash gateway show gw-1",
	}, gatewayColumns, func(ctx context.Context, c *client, o output, args []string) error {
		id, err := gatewayID(ctx, c, args[0])
		if err != nil {
			return err
		}
		var g api.Gateway
		if err := c.call(ctx, get(gatewayPath(id), nil), &g); err != nil {
			return err
		}
		return printOne(t, o, gatewayColumns, g)
	})
}

func gatewayPath(id string) string { return "/gateways/" + url.PathEscape(id) }

// gatewayAction builds a verb that posts to a gateway and then follows it until
// it has arrived.
func gatewayAction(t *terminal, c *cobra.Command, action string, look func(before, now api.Gateway) (bool, error)) *cobra.Command {
	var detach bool
	c = verb(t, c, gatewayColumns, func(ctx context.Context, c *client, o output, args []string) error {
		id, err := gatewayID(ctx, c, args[0])
		if err != nil {
			return err
		}
		var before, g api.Gateway
		if err := c.call(ctx, get(gatewayPath(id), nil), &before); err != nil {
			return err
		}
		if err := c.call(ctx, post(gatewayPath(id)+"/"+action, nil), &g); err != nil {
			return err
		}
		if !detach {
			g, err = follow(ctx, t, c, gatewayPath(id), "dash gateway show "+id, func(g api.Gateway) (string, bool, error) {
				done, err := look(before, g)
				return gatewayWords(g), done, err
			})
			if err != nil {
				return err
			}
		}
		return printList(t, o, gatewayColumns, []api.Gateway{g})
	})
	c.Flags().BoolVar(&detach, "detach", false, "return at once instead of following it")
	return c
}

func gatewayWords(g api.Gateway) string {
	words := fmt.Sprintf("gateway %s is %s, %d running", g.Id, g.State, g.Running)
	if r := deref(g.Reason); r != "" {
		words += ": " + r
	}
	return words
}

// stuck is the error of a gateway that will not arrive by itself.
func stuck(g api.Gateway) error {
	if g.State != api.GatewayStateQuarantined && g.State != api.GatewayStateRemoved {
		return nil
	}
	return &failure{code: exitFailed, what: fmt.Sprintf("gateway %s is %s: %s", g.Id, g.State, deref(g.Reason)), next: deref(g.NextStep)}
}

func gatewayDrainCommand(t *terminal) *cobra.Command {
	return gatewayAction(t, &cobra.Command{
		Use: "drain ID", Short: "Give a gateway no new work and wait until it is idle", Args: exactArgs("a gateway id"), ValidArgsFunction: completeGateways(t),
		Long:    "Runs in progress finish. Ctrl-C stops the waiting, not the drain; `dash gateway resume` ends it.",
		Example: "  dash gateway drain gw-1\n  dash gateway drain gw-1 --detach",
	}, "drain", func(_, g api.Gateway) (bool, error) { return g.State == api.GatewayStateDrained, stuck(g) })
}

func gatewayResumeCommand(t *terminal) *cobra.Command {
	return gatewayAction(t, &cobra.Command{
		Use: "resume ID", Short: "Take a drained or quarantined gateway back into service", Args: exactArgs("a gateway id"), ValidArgsFunction: completeGateways(t),
		Example: "  dash gateway resume gw-1",
	}, "resume", func(_, g api.Gateway) (bool, error) {
		return g.State == api.GatewayStateReady || g.State == api.GatewayStateDegraded, stuck(g)
	})
}

func gatewayRestartCommand(t *terminal) *cobra.Command {
	return gatewayAction(t, &cobra.Command{
		Use: "restart ID", Short: "Restart a managed gateway, or reconnect to another one", Args: exactArgs("a gateway id"), ValidArgsFunction: completeGateways(t),
		Long:    "A managed gateway is drained, stopped and started; runs in progress finish first.",
		Example: "  dash gateway restart gw-1\n  dash gateway restart gw-1 --detach",
	}, "restart", func(before, g api.Gateway) (bool, error) {
		// It may be ready before it begins as well: then it has to be ready anew.
		ready := g.State == api.GatewayStateReady || g.State == api.GatewayStateDegraded
		return ready && !deref(g.Since).Equal(deref(before.Since)), stuck(g)
	})
}

func gatewayRemoveCommand(t *terminal) *cobra.Command {
	var force, yes, dryRun bool
	c := verb(t, &cobra.Command{
		Use: "remove ID", Short: "Remove a gateway from the fleet", Args: exactArgs("a gateway id"), ValidArgsFunction: completeGateways(t),
		Long:    "Shows what it would remove and asks for the gateway's id. Refused while the gateway\nholds tasks, unless --force: they are then handled as their on_unknown says.\nThe process of a managed gateway is stopped; on another\nnode, by that node as soon as it is alive.",
		Example: "  dash gateway drain gw-1 && dash gateway remove gw-1\n  dash gateway remove gw-1 --dry-run\n  dash gateway remove gw-1 --force --yes",
	}, gatewayColumns, func(ctx context.Context, c *client, o output, args []string) error {
		id, err := gatewayID(ctx, c, args[0])
		if err != nil {
			return err
		}
		var g api.Gateway
		if err := c.call(ctx, get(gatewayPath(id), nil), &g); err != nil {
			return err
		}
		plan := fmt.Sprintf("gateway %s (%s, pool %s, %d tasks) will be removed", g.Id, g.State, g.Pool, g.Running)
		if g.Managed != nil {
			plan += " and its process stopped"
		}
		if dryRun {
			return write(t, plan+"\n")
		}
		if err := confirm(ctx, t, yes, plan, g.Id); err != nil {
			return err
		}
		call := request{method: http.MethodDelete, path: gatewayPath(id), header: post("", nil).header}
		if force {
			call.query = query("force", "true")
		}
		var left api.GatewayRemoval // stays empty when nothing is left to be done
		if err := c.call(ctx, call, &left); err != nil {
			return err
		}
		fmt.Fprintf(t.err, "gateway %s is removed\n", clean(id))
		if left.Detail != "" {
			fmt.Fprintln(t.err, clean(left.Detail))
		}
		return nil
	})
	c.Flags().BoolVar(&force, "force", false, "also while it holds tasks")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would happen")
	return c
}
