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
	"github.com/dash-fleet/dash/messages/next"
)

func keyCommand(t *terminal) *cobra.Command {
	return noun("key", "Create and revoke API keys", keyCreateCommand(t), keyListCommand(t), keyShowCommand(t), keyRevokeCommand(t))
}

var keyColumns = []column[api.ApiKey]{
	{name: "ID", value: func(v api.ApiKey) string { return v.Id }},
	{name: "NAME", value: func(v api.ApiKey) string { return v.Name }},
	{name: "TENANT", value: func(v api.ApiKey) string { return orAll(v.Tenant) }},
	{name: "PERMISSIONS", value: func(v api.ApiKey) string { return strings.Join(v.Permissions, ",") }},
	{name: "STATE", value: keyState},
	{name: "LAST-USED", value: func(v api.ApiKey) string {
		if v.LastUsedAt == nil {
			return ""
		}
		return age(time.Since(*v.LastUsedAt)) + " ago"
	}},
	{name: "EXPIRES", value: func(v api.ApiKey) string { return when(v.ExpiresAt) }},
	{name: "RATE", value: keyRate},
	{name: "PARENT", wide: true, value: func(v api.ApiKey) string { return deref(v.Parent) }},
	{name: "CREATED", wide: true, value: func(v api.ApiKey) string { return when(&v.CreatedAt) }},
	{name: "KEY", wide: true, value: func(v api.ApiKey) string { return deref(v.Key) }},
}

func orAll(tenant *string) string {
	if tenant == nil {
		return "(all)"
	}
	return *tenant
}

func keyRate(v api.ApiKey) string {
	if v.RateLimit == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%d/min", v.RateLimit)
}

func keyState(v api.ApiKey) string {
	switch {
	case !v.Active:
		return "revoked"
	case v.ExpiresAt != nil && v.ExpiresAt.Before(time.Now()):
		return "expired"
	}
	return "active"
}

var permissionNames = []string{
	"read", "submit", "operate", "admin", "tasks:read", "tasks:write", "gateways:read", "gateways:write", "sessions:read",
	"sessions:write", "pools:read", "pools:write", "nodes:read", "events:read", "metrics:read",
}

func keyCreateCommand(t *terminal) *cobra.Command {
	var permissions []string
	var tenant string
	var all, admin bool
	var rate int
	var life time.Duration
	c := command(&cobra.Command{
		Use: "create NAME", Short: "Create an API key and show it once", Args: exactArgs("a name that tells who uses the key"),
		Long: "The key is shown once; Dash keeps only its hash. Give it the permissions that its user\nneeds: read, submit (tasks and sessions), operate (also gateways and pools), admin, or\n" +
			"single permissions like tasks:read.\n\n" +
			"With --admin the key is made in the store itself, without a node and without a key, for\n" +
			"anyone who lost all admin keys and can read the store. It may do everything for all tenants.\n" +
			"A node on the embedded store must be stopped first; others accept the key at once.",
		Example: "  dash key create nightly-job --permission submit --expires-in 2160h\n  dash key create grafana --permission metrics:read -o json\n  dash key create admin-2 --permission admin --all-tenants\n  dash key create importer --permission submit --rate-limit 6000\n" +
			"  dash key create way-back --admin --data /var/lib/dash\n  dash key create way-back --admin --store postgres --postgres-url postgres://dash@db/dash",
	}, keyColumns, func(cmd *cobra.Command, o output, args []string) error {
		if life < 0 {
			return usage(next.WriteExpiresIn, "--expires-in must not be negative")
		}
		if o.format == "name" || len(o.columns) > 0 && !o.shows("key") {
			return usage(next.PrintNewKey, "this output leaves the new key out, and it is never shown again")
		}
		if admin {
			return createOffline(t, cmd, o, args[0], life)
		}
		for _, name := range storeFlagNames {
			if cmd.Flags().Changed(name) {
				return usage(fmt.Sprintf(next.GiveAdminOrURL, name), "--%s goes with --admin", name)
			}
		}
		body := api.CreateKey{Name: args[0], Tenant: opt(tenant), AllTenants: opt(all)}
		for _, p := range permissions {
			body.Permissions = append(body.Permissions, api.Permission(p))
		}
		if cmd.Flags().Changed("rate-limit") {
			body.RateLimit = &rate
		}
		if life > 0 {
			at := time.Now().Add(life).UTC().Truncate(time.Second)
			body.ExpiresAt = &at
		}
		c, err := newClient(t)
		if err != nil {
			return err
		}
		var k api.ApiKey
		if err := c.call(cmd.Context(), post("/keys", body), &k); err != nil {
			return err
		}
		if err := printOne(t, o, keyColumns, k); err != nil {
			return err
		}
		fmt.Fprintln(t.err, "keep the key now: it is not shown again")
		return nil
	})
	fs := c.Flags()
	fs.StringSliceVar(&permissions, "permission", nil, "what it may do, required without --admin; repeatable")
	fs.BoolVar(&admin, "admin", false, "create a key that may do everything, directly in the store, without a node")
	fs.String("admin-key-file", "", "with --admin: the key is also written to this file, unless it is there (default <data>/admin.key)")
	fs.IntVar(&rate, "rate-limit", 100, "requests per minute, over all nodes if they have --redis-url; 0: no limit")
	fs.DurationVar(&life, "expires-in", 0, "lifetime of the key, for example 720h; 0: it does not expire")
	accountTenantFlags(t, c, &tenant, &all)
	storeFlags(c)
	c.MarkFlagsOneRequired("permission", "admin")
	for _, name := range []string{"permission", "rate-limit", "tenant", "all-tenants"} {
		c.MarkFlagsMutuallyExclusive("admin", name)
	}
	completeFlags(c, map[string]cobra.CompletionFunc{"permission": cobra.FixedCompletions(permissionNames, cobra.ShellCompDirectiveNoFileComp)})
	return c
}

// accountTenantFlags say to whom an account belongs.
func accountTenantFlags(t *terminal, c *cobra.Command, tenant *string, all *bool) {
	c.Flags().StringVar(tenant, "tenant", "", "tenant it belongs to (default your own, else default)")
	c.Flags().BoolVar(all, "all-tenants", false, "it belongs to all tenants")
	c.MarkFlagsMutuallyExclusive("tenant", "all-tenants")
}

func keyListCommand(t *terminal) *cobra.Command {
	var active bool
	c := verb(t, &cobra.Command{Use: "list", Short: "List API keys", Example: "  dash key list --active\n  dash key list -o wide"},
		keyColumns, func(ctx context.Context, c *client, o output, _ []string) error {
			items, _, err := listAll[api.ApiKey](ctx, c, "/keys", nil, 0)
			if err != nil {
				return err
			}
			some := items[:0]
			for _, k := range items {
				if !active || keyState(k) == "active" {
					some = append(some, k)
				}
			}
			return printList(t, o, keyColumns, some)
		})
	c.Flags().BoolVar(&active, "active", false, "only keys that work")
	return c
}

func keyPath(id string) string { return "/keys/" + url.PathEscape(id) }

func keyID(ctx context.Context, c *client, short string) (string, error) {
	return resolve(ctx, "key", short, false, func() ([]string, error) {
		return ids(ctx, c, "/keys", nil, 0, func(k api.ApiKey) string { return k.Id })
	})
}

func completeKeys(t *terminal) cobra.CompletionFunc {
	return complete(t, "/keys", nil, func(v api.ApiKey) (string, string) { return v.Id, v.Name + " " + keyState(v) })
}

func keyShowCommand(t *terminal) *cobra.Command {
	return verb(t, &cobra.Command{
		Use: "show ID", Short: "Show what a key may do and when it was used", Args: exactArgs("a key id"), ValidArgsFunction: completeKeys(t),
		Example: "  dash key show mfzwizltoq2d\n  dash key show mfzw",
	}, keyColumns, func(ctx context.Context, c *client, o output, args []string) error {
		id, err := keyID(ctx, c, args[0])
		if err != nil {
			return err
		}
		var k api.ApiKey
		if err := c.call(ctx, get(keyPath(id), nil), &k); err != nil {
			return err
		}
		return printOne(t, o, keyColumns, k)
	})
}

func keyRevokeCommand(t *terminal) *cobra.Command {
	var yes, dryRun, keep bool
	c := verb(t, &cobra.Command{
		Use: "revoke ID", Short: "Revoke an API key and those that it created, for good", Args: exactArgs("a key id"), ValidArgsFunction: completeKeys(t),
		Long:    "Within a second every node rejects the key, and all keys that it created. With\n--keep-children these stay and belong to the creator of this key. This cannot be undone:\ncreate a new key.",
		Example: "  dash key revoke mfzwizltoq2d\n  dash key revoke mfzw --dry-run\n  dash key revoke mfzwizltoq2d --yes",
	}, keyColumns, func(ctx context.Context, c *client, o output, args []string) error {
		id, err := keyID(ctx, c, args[0])
		if err != nil {
			return err
		}
		var k api.ApiKey
		if err := c.call(ctx, get(keyPath(id), nil), &k); err != nil {
			return err
		}
		plan := fmt.Sprintf("key %s (%s, %s, %s) will be refused from now on", k.Id, k.Name, strings.Join(k.Permissions, ","), keyState(k))
		all, _, err := listAll[api.ApiKey](ctx, c, "/keys", nil, 0)
		if err != nil {
			return err
		}
		if made := descendants(all, k.Id, map[string]bool{}); len(made) > 0 && !keep {
			plan += fmt.Sprintf(", and so will %d that it made: %s", len(made), strings.Join(made, ", "))
		}
		query := url.Values{}
		if keep {
			query.Set("keep_children", "true")
		}
		if dryRun {
			return write(t, clean(plan)+"\n")
		}
		if err := confirm(ctx, t, yes, plan, k.Id); err != nil {
			return err
		}
		if err := c.call(ctx, request{method: http.MethodDelete, path: keyPath(id), query: query, header: post("", nil).header}, &k); err != nil {
			return err
		}
		return printOne(t, o, keyColumns, k)
	})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would happen")
	c.Flags().BoolVar(&keep, "keep-children", false, "keep the keys that it created")
	return c
}

// descendants are the active keys that a key made, and those that these made.
func descendants(all []api.ApiKey, id string, seen map[string]bool) (made []string) {
	seen[id] = true
	for _, k := range all {
		if deref(k.Parent) == id && !seen[k.Id] {
			if keyState(k) == "active" {
				made = append(made, k.Id)
			}
			made = append(made, descendants(all, k.Id, seen)...)
		}
	}
	return made
}
