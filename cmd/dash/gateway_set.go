package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/http/api"
)

// gatewayChange is the flags of `dash gateway set`.
type gatewayChange struct {
	config, url, tokenFile, region, node string
	tokenStdin, here, fresh              bool
	maxConcurrency, weight               int
	capabilities, labels                 []string
}

func gatewaySetCommand(t *terminal) *cobra.Command {
	var g gatewayChange
	var flags *cobra.Command
	c := verb(t, &cobra.Command{
		Use: "set ID", Short: "Change a gateway's settings", Args: exactArgs("a gateway id"), ValidArgsFunction: completeGateways(t),
		Long: "Only what is given changes, and runs at the gateway continue. A new URL or token makes Dash\nreconnect, also to a gateway that was quarantined for the old one. A managed gateway takes\na new --config or --max-concurrency while it runs where it can, else Dash restarts it when its runs\nhave ended: `dash gateway show ID` says which (CONFIG). One that it refuses leaves it at work with\nthe one before.\n" +
			"A gateway that only one node can reach (managed, or on a loopback URL) has that node as its home.\nWhen the home is lost for good, --here makes the node that works its home, --node another one that\nis alive. Be sure: what the lost home still runs is not known, and would run a second time.\n" +
			"Somebody else's change in between is not overwritten: the command then exits 4.",
		Example: "  dash gateway set gw-1 --max-concurrency 4 --region eu\n" +
			"  dash gateway set gw-1 --token-file token.txt\n" +
			"  dash gateway set gw-1 --url wss://gw-1.example:18789 --token-file token.txt\n" +
			"  dash gateway set gw-2 --config openclaw.json\n" +
			"  dash gateway set gw-2 --here\n" +
			"  dash gateway set gw-2 --node n-2 --fresh\n" +
			"  pass show gw-1 | dash gateway set gw-1 --token-stdin\n" +
			"  dash gateway set gw-1 --label rack=b --label old- --capability browser,gpu",
	}, gatewayColumns, func(ctx context.Context, c *client, o output, args []string) error {
		id, err := gatewayID(ctx, c, args[0])
		if err != nil {
			return err
		}
		var old, now api.Gateway
		if err := c.call(ctx, get(gatewayPath(id), nil), &old); err != nil {
			return err
		}
		body, err := g.body(t, old, flags.Flags().Changed)
		if err != nil {
			return err
		}
		header := post("", nil).header
		header.Set("If-Match", strconv.Quote(fmt.Sprint(old.Version)))
		if err := c.call(ctx, request{method: http.MethodPatch, path: gatewayPath(id), body: body, header: header}, &now); err != nil {
			return err
		}
		return printOne(t, o, gatewayColumns, now)
	})
	flags = c
	fs := c.Flags()
	fs.StringVar(&g.url, "url", "", "new address, ws:// or wss://; needs the token again, which is never sent to another address")
	fs.StringVar(&g.config, "config", "", "managed: file with OpenClaw's configuration (JSON) in place of the one before; - reads stdin")
	fs.StringVar(&g.tokenFile, "token-file", "", "file with its new token; - reads stdin")
	fs.BoolVar(&g.tokenStdin, "token-stdin", false, "read its new token from stdin")
	fs.IntVar(&g.maxConcurrency, "max-concurrency", 0, "runs it may hold at once")
	fs.IntVar(&g.weight, "weight", 0, "share of the work among equals")
	fs.StringVar(&g.region, "region", "", "region it is in; empty removes it")
	fs.StringSliceVar(&g.capabilities, "capability", nil, "what it can do, in place of what was given before; repeatable; empty removes all")
	fs.StringArrayVar(&g.labels, "label", nil, "label as name=value; name- removes it; repeatable")
	fs.BoolVar(&g.here, "here", false, "the active node becomes its home, when its own is lost for good")
	fs.StringVar(&g.node, "node", "", "the living node of this name becomes its home, when its own is lost for good")
	fs.BoolVar(&g.fresh, "fresh", false, "managed, with --here or --node: start with an empty state folder where its own is not there")
	c.MarkFlagsMutuallyExclusive("token-file", "token-stdin")
	c.MarkFlagsMutuallyExclusive("here", "node")
	c.MarkFlagsOneRequired("url", "token-file", "token-stdin", "max-concurrency", "weight", "region", "capability", "label", "config", "here", "node")
	return c
}

// body holds the fields that were given. It is no api.UpdateGateway, which
// cannot tell a region that goes from one that stays.
func (g gatewayChange) body(t *terminal, old api.Gateway, given func(string) bool) (map[string]any, error) {
	body := map[string]any{}
	if g.tokenStdin {
		g.tokenFile = "-"
	}
	token, err := readToken(t, "", g.tokenFile)
	if err != nil {
		return nil, err
	}
	if token != "" {
		body["token"] = token
	}
	if given("config") {
		conf, err := readConfig(t, g.config)
		if err != nil {
			return nil, err
		}
		body["managed"] = map[string]any{"config": conf}
	}
	for flag, value := range map[string]any{"url": g.url, "max-concurrency": g.maxConcurrency, "weight": g.weight, "region": g.region, "node": g.node} {
		if given(flag) {
			body[strings.ReplaceAll(flag, "-", "_")] = value
		}
	}
	for flag, on := range map[string]bool{"here": g.here, "fresh": g.fresh} {
		if on {
			body[flag] = true
		}
	}
	if given("region") && g.region == "" {
		body["region"] = nil
	}
	if given("capability") {
		body["capabilities"] = slices.DeleteFunc(slices.Clone(g.capabilities), func(s string) bool { return s == "" })
	}
	if given("label") {
		marks, err := changedLabels(old.Labels, g.labels)
		if err != nil {
			return nil, err
		}
		body["labels"] = marks
	}
	return body, nil
}

// changedLabels applies name=value and name- to the labels there are.
func changedLabels(old map[string]string, given []string) (map[string]string, error) {
	marks := maps.Clone(old)
	if marks == nil {
		marks = map[string]string{}
	}
	for _, l := range given {
		if name, ok := strings.CutSuffix(l, "-"); ok && !strings.Contains(l, "=") {
			delete(marks, name)
			continue
		}
		one, err := pairs("label", []string{l})
		if err != nil {
			return nil, err
		}
		maps.Copy(marks, one)
	}
	return marks, nil
}
