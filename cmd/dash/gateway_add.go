package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages/next"
)

// maxToken bounds a token file, in bytes; the API takes 4 KiB.
const maxToken = 4 << 10

// addition is the flags of `dash gateway add`.
type addition struct {
	config, url, token, tokenFile, pool, tenant, node, region, command, stateDir string
	managed, wait                                                                bool
	maxConcurrency, weight, port                                                 int
	capabilities, labels, env                                                    []string
}

func gatewayAddCommand(t *terminal) *cobra.Command {
	var a addition
	c := verb(t, &cobra.Command{
		Use: "add ID", Short: "Register a gateway, or one that Dash starts itself", Args: exactArgs("an id for the gateway"),
		Long: "With --url: a gateway that runs already. Give its token by --token-file (- is stdin): an\nargument is visible to other users of the machine.\n" +
			"With --managed: Dash starts the process, keeps it alive and makes its token.",
		Example: "  dash gateway add gw-1 --url ws://127.0.0.1:18789 --token-file token.txt --wait\n" +
			"  dash gateway add gw-2 --managed --max-concurrency 2 --wait\n" +
			"  dash gateway add gw-3 --managed --command '/usr/bin/openclaw gateway run' --port 19100\n" +
			"  dash gateway add gw-4 --managed --config openclaw.json --wait",
	}, gatewayColumns, func(ctx context.Context, c *client, o output, args []string) error {
		body, err := a.body(t, args[0])
		if err != nil {
			return err
		}
		var g api.Gateway
		if err := c.call(ctx, post("/gateways", body), &g); err != nil {
			return err
		}
		if a.wait {
			g, err = follow(ctx, t, c, gatewayPath(g.Id), "dash gateway show "+g.Id, func(g api.Gateway) (string, bool, error) {
				return gatewayWords(g), g.State == api.GatewayStateReady || g.State == api.GatewayStateDegraded, stuck(g)
			})
			if err != nil {
				return err
			}
		}
		return printList(t, o, gatewayColumns, []api.Gateway{g})
	})
	fs := c.Flags()
	fs.StringVar(&a.url, "url", "", "address of a running gateway, ws:// or wss://")
	fs.StringVar(&a.token, "token", "", "its token (prefer --token-file)")
	fs.StringVar(&a.tokenFile, "token-file", "", "file with its token; - reads stdin")
	fs.BoolVar(&a.managed, "managed", false, "Dash starts the gateway and keeps it alive")
	fs.StringVar(&a.command, "command", "", "managed: absolute program and arguments, one of the node's --managed-commands (default the node's own)")
	fs.StringVar(&a.config, "config", "", "managed: file with OpenClaw's configuration (JSON), such as its models and providers; - reads stdin")
	fs.IntVar(&a.port, "port", 0, "managed: port (default chosen by Dash)")
	fs.StringVar(&a.stateDir, "state-dir", "", "managed: folder for its state, outside of Dash's own (default: Dash creates one)")
	fs.StringArrayVar(&a.env, "env", nil, "managed: variable as NAME=value, such as a provider's key; repeatable")
	fs.IntVar(&a.maxConcurrency, "max-concurrency", 0, "runs it may hold at once (default 4)")
	fs.IntVar(&a.weight, "weight", 0, "share of the work among equals (default 1)")
	fs.StringVar(&a.pool, "pool", "", "pool it belongs to (default its tenant's own)")
	fs.StringVar(&a.tenant, "tenant", "", "tenant it belongs to")
	fs.StringVar(&a.node, "node", "", "home node of a loopback URL (default the node asked)")
	fs.StringVar(&a.region, "region", "", "region it is in")
	fs.StringSliceVar(&a.capabilities, "capability", nil, "what it can do; repeatable")
	fs.StringArrayVar(&a.labels, "label", nil, "label as name=value; repeatable")
	fs.BoolVar(&a.wait, "wait", false, "return when it is ready")
	c.MarkFlagsOneRequired("url", "managed")
	c.MarkFlagsMutuallyExclusive("url", "managed")
	c.MarkFlagsMutuallyExclusive("token", "token-file")
	completeFlags(c, map[string]cobra.CompletionFunc{"pool": completePools(t)})
	return c
}

func (a addition) body(t *terminal, id string) (api.CreateGateway, error) {
	var none api.CreateGateway
	marks, err := pairs("label", a.labels)
	if err != nil {
		return none, err
	}
	body := api.CreateGateway{
		Id: id, Url: opt(a.url), Pool: opt(a.pool), Tenant: opt(a.tenant), Node: opt(a.node), Region: opt(a.region),
		MaxConcurrency: opt(a.maxConcurrency), Weight: opt(a.weight),
	}
	if len(marks) > 0 {
		body.Labels = &marks
	}
	if len(a.capabilities) > 0 {
		body.Capabilities = &a.capabilities
	}
	if a.managed {
		body.Managed, err = a.process(t)
		return body, err
	}
	if a.config != "" || a.command != "" || a.port != 0 || a.stateDir != "" || len(a.env) > 0 {
		return none, usage(next.ManagedInPlaceOfURL, "--config, --command, --port, --state-dir and --env belong to a managed gateway")
	}
	token, err := readToken(t, a.token, a.tokenFile)
	if err != nil {
		return none, err
	}
	body.Token = opt(token)
	return body, nil
}

func (a addition) process(t *terminal) (*api.CreateManaged, error) {
	if a.token != "" || a.tokenFile != "" {
		return nil, usage(next.LeaveTokenOut, "Dash makes the token of a managed gateway itself")
	}
	m := &api.CreateManaged{Port: opt(a.port), StateDir: opt(a.stateDir)}
	if a.command != "" {
		words, err := config.SplitWords(a.command)
		if err != nil {
			return nil, usage(next.CloseQuotation, "%s", err)
		}
		m.Command = &words
	}
	env, err := pairs("env", a.env)
	if err != nil {
		return nil, err
	}
	if len(env) > 0 {
		m.Env = &env
	}
	if a.config != "" {
		conf, err := readConfig(t, a.config)
		if err != nil {
			return nil, err
		}
		m.Config = &conf
	}
	return m, nil
}

// maxConfig bounds a configuration file, in bytes; the API takes 1 MiB.
const maxConfig = 1 << 20

// readConfig reads a gateway's configuration: a JSON object.
func readConfig(t *terminal, file string) (map[string]any, error) {
	raw, err := readFile(t, file, maxConfig)
	if err != nil {
		return nil, usage(next.CheckFile, "the configuration %s cannot be read: %v", file, err)
	}
	if len(raw) > maxConfig {
		return nil, usage(next.CheckFile, "the configuration %s is longer than %d bytes", file, maxConfig)
	}
	var conf map[string]any
	if err := json.Unmarshal(raw, &conf); err != nil || conf == nil {
		return nil, usage(next.WriteJSONObject, "the configuration %s is no JSON object: %v", file, err)
	}
	return conf, nil
}

// readFile reads at most limit bytes and one more; - is stdin.
func readFile(t *terminal, file string, limit int64) ([]byte, error) {
	in := t.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			var pe *os.PathError
			if errors.As(err, &pe) {
				err = pe.Err
			}
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, limit+1))
}

func readToken(t *terminal, flag, file string) (string, error) {
	if file == "" {
		return flag, nil
	}
	token, err := secretFile(t, "token", file)
	return strings.TrimSpace(token), err
}
