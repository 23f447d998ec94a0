package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/http/api"
)

func nodeCommand(t *terminal) *cobra.Command {
	return noun("node", "Show the Dash nodes", nodeListCommand(t))
}

var nodeColumns = []column[api.Node]{
	{name: "ID", value: func(v api.Node) string { return v.Id }},
	{name: "ADDRESS", value: func(v api.Node) string { return deref(v.Addr) }},
	{name: "WORKS", value: func(v api.Node) string {
		if v.Works {
			return "yes"
		}
		return "standby"
	}},
	{name: "REGION", value: func(v api.Node) string { return deref(v.Region) }},
	{name: "VERSION", value: func(v api.Node) string { return v.Version }},
	{name: "LEASE", value: func(v api.Node) string {
		if v.ExpiresAt == nil {
			return ""
		}
		return "ends " + age(time.Since(*v.ExpiresAt))
	}},
}

func nodeListCommand(t *terminal) *cobra.Command {
	return verb(t, &cobra.Command{Use: "list", Short: "List the nodes whose lease is valid", Example: "  dash node list"},
		nodeColumns, func(ctx context.Context, c *client, o output, _ []string) error {
			var l api.NodeList
			if err := c.call(ctx, get("/nodes", nil), &l); err != nil {
				return err
			}
			return printList(t, o, nodeColumns, l.Items)
		})
}
