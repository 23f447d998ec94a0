package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages/next"
)

func tenantCommand(t *terminal) *cobra.Command {
	return noun("tenant", "Make tenants: owners of gateways, tasks, keys and users", tenantCreateCommand(t), tenantListCommand(t))
}

var tenantColumns = []column[api.TenantEntry]{
	{name: "ID", value: func(v api.TenantEntry) string { return v.Id }},
	{name: "NAME", value: func(v api.TenantEntry) string { return v.Name }},
	{name: "CREATED", value: func(v api.TenantEntry) string { return when(&v.CreatedAt) }},
}

func tenantCreateCommand(t *terminal) *cobra.Command {
	var name string
	c := verb(t, &cobra.Command{
		Use: "create ID", Short: "Make a tenant", Args: exactArgs("an id for the tenant"),
		Example: "  dash tenant create acme --name 'Acme Ltd.'",
	}, tenantColumns, func(ctx context.Context, c *client, o output, args []string) error {
		var made api.TenantEntry
		if err := c.call(ctx, post("/tenants", api.CreateTenant{Id: args[0], Name: opt(name)}), &made); err != nil {
			return err
		}
		return printOne(t, o, tenantColumns, made)
	})
	c.Flags().StringVar(&name, "name", "", "how people call it (default the id)")
	return c
}

func tenantListCommand(t *terminal) *cobra.Command {
	return verb(t, &cobra.Command{Use: "list", Short: "List tenants", Example: "  dash tenant list"},
		tenantColumns, func(ctx context.Context, c *client, o output, _ []string) error {
			items, _, err := listAll[api.TenantEntry](ctx, c, "/tenants", nil, 0)
			if err != nil {
				return err
			}
			return printList(t, o, tenantColumns, items)
		})
}

func completeTenants(t *terminal) cobra.CompletionFunc {
	return complete(t, "/tenants", nil, func(v api.TenantEntry) (string, string) { return v.Id, v.Name })
}

func auditCommand(t *terminal) *cobra.Command {
	return noun("audit", "Show who changed what, and check that the record is unchanged", auditListCommand(t), auditVerifyCommand(t))
}

var auditColumns = []column[api.AuditRow]{
	{name: "SEQ", value: func(v api.AuditRow) string { return fmt.Sprint(v.Seq) }},
	{name: "TIME", value: func(v api.AuditRow) string { return when(&v.Time) }},
	{name: "ACTOR", value: func(v api.AuditRow) string { return v.Actor }},
	{name: "ACTION", value: func(v api.AuditRow) string { return v.Action }},
	{name: "TARGET", value: func(v api.AuditRow) string { return v.Target }},
	{name: "TENANT", wide: true, value: func(v api.AuditRow) string { return orAll(v.Tenant) }},
	{name: "REQUEST", wide: true, value: func(v api.AuditRow) string { return v.RequestId }},
	{name: "HASH", wide: true, value: func(v api.AuditRow) string { return v.Hash }},
	{name: "DETAIL", long: true, value: func(v api.AuditRow) string {
		if len(v.Detail) == 0 {
			return ""
		}
		b, err := json.Marshal(v.Detail)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}},
}

func auditListCommand(t *terminal) *cobra.Command {
	var limit int
	var actor, action, target, since, until string
	c := verb(t, &cobra.Command{
		Use: "list", Short: "List changes and refused requests, newest first",
		Example: "  dash audit list\n  dash audit list --action updateGateway --target gw-1 --since 24h -o wide\n  dash audit list --limit 0 -o jsonl",
	}, auditColumns, func(ctx context.Context, c *client, o output, _ []string) error {
		q := url.Values{}
		for name, v := range map[string]string{"actor": actor, "action": action, "target": target} {
			if v != "" {
				q.Set(name, v)
			}
		}
		for name, v := range map[string]string{"since": since, "until": until} {
			if err := setMoment(q, name, v); err != nil {
				return err
			}
		}
		items, more, err := listAll[api.AuditRow](ctx, c, "/audit", q, limit)
		if err != nil {
			return err
		}
		if err := printList(t, o, auditColumns, items); err != nil {
			return err
		}
		if more {
			fmt.Fprintf(t.err, "the newest %d are shown; --limit 0 shows all\n", limit)
		}
		return nil
	})
	c.Flags().IntVar(&limit, "limit", 50, "at most this many; 0 for all")
	c.Flags().StringVar(&actor, "actor", "", "only of this one, such as key:ID, user:ID or anonymous")
	c.Flags().StringVar(&action, "action", "", "only this operation of the API, such as updateGateway")
	c.Flags().StringVar(&target, "target", "", "only about the thing of this id")
	c.Flags().StringVar(&since, "since", "", "from this time on: 2026-11-21T04:00:00Z, or how long ago, such as 24h")
	c.Flags().StringVar(&until, "until", "", "before this time")
	return c
}

// setMoment puts a time into a query: a time, or how long ago it was.
func setMoment(q url.Values, name, v string) error {
	if v == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, v)
	if err != nil {
		ago, derr := time.ParseDuration(v)
		if derr != nil || ago < 0 {
			return usage(next.GiveMoment, "--%s %q is no time", name, v)
		}
		at = time.Now().Add(-ago)
	}
	q.Set(name, at.UTC().Format(time.RFC3339Nano))
	return nil
}

var verificationColumns = []column[api.AuditVerification]{
	{name: "INTACT", value: func(v api.AuditVerification) string { return fmt.Sprint(v.Intact) }},
	{name: "ROWS", value: func(v api.AuditVerification) string { return fmt.Sprint(v.Rows) }},
	{name: "HEAD", value: func(v api.AuditVerification) string { return v.Head }},
	{name: "WHY", value: func(v api.AuditVerification) string { return deref(v.Why) }},
}

func auditVerifyCommand(t *terminal) *cobra.Command {
	return verb(t, &cobra.Command{
		Use: "verify", Short: "Check the whole record of changes",
		Long:    "Exits 1 when a row was changed or removed. Keep the head elsewhere from time to time: the\nrow of that number must still have that hash later (`dash audit list -o wide`).",
		Example: "  dash audit verify\n  dash audit verify -o jsonl >> /var/log/dash-audit-heads.jsonl",
	}, verificationColumns, func(ctx context.Context, c *client, o output, _ []string) error {
		var v api.AuditVerification
		if err := c.call(ctx, get("/audit/verification", nil), &v); err != nil {
			return err
		}
		if err := printOne(t, o, verificationColumns, v); err != nil {
			return err
		}
		if v.Intact {
			return nil
		}
		return &failure{code: exitFailed, what: fmt.Sprintf("the audit log is broken at row %d: %s", deref(v.BrokenAt), deref(v.Why)),
			next: next.KeepAndCompare}
	})
}
