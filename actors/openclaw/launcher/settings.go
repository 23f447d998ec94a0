package launcher

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

const (
	settingsLimit = 4 << 20
	minToken      = 16
	maxToken      = 4096
)

// plan is a checked Spec: everything a start needs but port and token.
type plan struct {
	argv     []string
	env      []string
	settings map[string]any // the daemon's configuration without gateway.port and gateway.auth
	prints   prints
	port     int // 0: choose
	token    messages.Secret
	secrets  []string // what the daemon's output may not be shown with
}

// prepare checks spec. Its errors are permanent.
func (l *Launcher) prepare(dir folder, spec Spec) (*plan, error) {
	if refused := l.Refusals(spec.Managed); len(refused) > 0 {
		return nil, refused[0].err()
	}
	argv, err := l.commandFor(spec.Managed.Command)
	if err != nil {
		return nil, err
	}
	env, err := l.environment(dir, argv[0], spec.Managed.Env)
	if err != nil {
		return nil, err
	}
	if p := spec.Managed.Port; p != 0 && (p < 1024 || p > 65535) {
		return nil, permanent(next.PortRange, "the gateway's port %d cannot be used", p)
	}
	if t := spec.Token.Reveal(); t != "" && (len(t) < minToken || len(t) > maxToken || !printable(t)) {
		return nil, permanent(next.OtherToken, "the gateway's token is not %d to %d printable ASCII characters", minToken, maxToken)
	}
	if slices.ContainsFunc(argv, func(a string) bool { return !spec.Token.Empty() && strings.Contains(a, spec.Token.Reveal()) }) {
		return nil, permanent(next.RemoveTokenFromCommand, "the command holds the gateway's token, which every user of the host could read")
	}
	settings, err := settingsFor(dir, spec)
	if err != nil {
		return nil, err
	}
	p, err := printsOf(spec, settings)
	if err != nil {
		return nil, permanent(next.CorrectGatewayConfig, "the gateway's configuration cannot be written as JSON: %v", err)
	}
	return &plan{argv: argv, env: env, settings: settings, prints: p, port: spec.Managed.Port, token: spec.Token,
		secrets: secretsIn(settings, spec.Managed.Env)}, nil
}

// prints are fingerprints of what a Spec asks for, without the token. Empty: not
// known. What the node gives, its command and what is inherited from its
// environment, is left out: it may differ with every start of Dash.
type prints struct {
	Start  string `json:"start_fingerprint"`  // command, environment and port: only a start takes them
	Config string `json:"config_fingerprint"` // the configuration file, which the daemon watches
}

func printsOf(spec Spec, settings map[string]any) (prints, error) {
	var p prints
	for print, of := range map[*string]any{&p.Start: []any{spec.Managed.Command, spec.Managed.Env, spec.Managed.Port}, &p.Config: settings} {
		b, err := json.Marshal(of)
		if err != nil {
			return p, err
		}
		sum := sha256.Sum256(b)
		*print = hex.EncodeToString(sum[:16])
	}
	return p, nil
}

// restarts reports whether only a start brings what is wanted.
func (p prints) restarts(wanted prints) bool { return p.Start != "" && p.Start != wanted.Start }

// stale reports whether the process runs with something else than is wanted, as
// far as that is known.
func (p prints) stale(wanted prints) bool {
	return p.restarts(wanted) || p.Config != "" && p.Config != wanted.Config
}

var secretName = regexp.MustCompile(`(?i)(key|token|secret|passw|credential|authorization)`)

// minSecret keeps words such as "none" from being taken for secrets.
const minSecret = 6

// secretsIn returns the values that are secret by their names, longest first.
func secretsIn(settings map[string]any, env map[string]string) []string {
	var found []string
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, inner := range v {
				walk(key, inner)
			}
		case []any:
			for _, inner := range v {
				walk(name, inner)
			}
		case string:
			if len(v) >= minSecret && secretName.MatchString(name) {
				found = append(found, v)
			}
		}
	}
	walk("", settings)
	for name, v := range env {
		walk(name, v)
	}
	slices.SortFunc(found, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return found
}

// shown returns the end of the daemon's output without its secrets.
func (p *plan) shown(dir folder, token messages.Secret) []string {
	secrets := []string{token.Reveal()}
	if p != nil {
		secrets = append(secrets, p.secrets...)
	}
	return tail(dir, secrets...)
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// settingsFor merges the configuration wanted by spec over the smallest one
// that runs: spec wins, null removes a key.
func settingsFor(dir folder, spec Spec) (map[string]any, error) {
	concurrent := spec.MaxConcurrency
	if concurrent <= 0 {
		concurrent = 8
	}
	settings := map[string]any{
		"gateway": map[string]any{
			"mode": "local", "bind": "loopback",
			"controlUi": map[string]any{"enabled": false},
			"http": map[string]any{"endpoints": map[string]any{
				"chatCompletions": map[string]any{"enabled": true}, "responses": map[string]any{"enabled": true}}},
		},
		"agents": map[string]any{"defaults": map[string]any{
			"workspace": dir.workspace(), "skipBootstrap": true, "maxConcurrent": concurrent,
			"heartbeat": map[string]any{"every": "0m"},
		}},
		"plugins": map[string]any{"enabled": false}, "browser": map[string]any{"enabled": false},
		"cron": map[string]any{"enabled": false}, "discovery": map[string]any{"mdns": map[string]any{"mode": "off"}},
		"update": map[string]any{"checkOnStart": false}, "logging": map[string]any{"file": dir.ownLog()},
	}
	own, err := normalise(spec.Managed.Config)
	if err != nil {
		return nil, err
	}
	if gw, ok := own["gateway"]; ok {
		section, ok := gw.(map[string]any)
		if !ok {
			return nil, permanent(next.CorrectGatewayConfig, "gateway in the gateway's config is not an object")
		}
		for _, key := range []string{"mode", "bind", "port", "auth"} {
			if _, ok := section[key]; ok {
				return nil, permanent(next.RemovePortToken,
					"gateway.%s in the gateway's config is set by Dash", key)
			}
		}
	}
	merge(settings, own)
	return settings, nil
}

// normalise makes config what its JSON says, so that merging meets only maps,
// slices and scalars.
func normalise(config map[string]any) (map[string]any, error) {
	b, err := json.Marshal(config)
	if err != nil {
		return nil, permanent(next.CorrectGatewayConfig, "the gateway's config cannot be written as JSON: %v", err)
	}
	if len(b) > settingsLimit {
		return nil, permanent(next.MakeSmaller, "the gateway's config has %d bytes, more than %d", len(b), settingsLimit)
	}
	own := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&own); err != nil {
		return nil, permanent(next.CorrectGatewayConfig, "the gateway's config cannot be read back: %v", err)
	}
	return own, nil
}

// merge writes src over dst as RFC 7386 says: objects by key, null removes.
func merge(dst, src map[string]any) {
	for key, v := range src {
		if v == nil {
			delete(dst, key)
			continue
		}
		from, isMap := v.(map[string]any)
		if !isMap {
			dst[key] = v
			continue
		}
		to, ok := dst[key].(map[string]any)
		if !ok {
			to = map[string]any{}
			dst[key] = to
		}
		merge(to, from)
	}
}

// file returns the content of openclaw.json for a port and a token.
func (p *plan) file(port int, token messages.Secret) ([]byte, error) {
	gw := maps.Clone(p.settings["gateway"].(map[string]any))
	gw["port"] = port
	gw["auth"] = map[string]any{"mode": "token", "token": token.Reveal()}
	all := maps.Clone(p.settings)
	all["gateway"] = gw
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the gateway's configuration: %w", err)
	}
	return append(b, '\n'), nil
}

// previous is what the configuration file of the last start says about how to
// reach that process. The daemon may have rewritten the file: what cannot be
// used is left out.
type previous struct {
	port  int
	token messages.Secret
}

func readPrevious(dir folder) previous {
	b, err := readFile(dir.config(), 2*settingsLimit)
	if err != nil {
		return previous{}
	}
	var c struct {
		Gateway struct {
			Port int `json:"port"`
			Auth struct {
				Token string `json:"token"`
			} `json:"auth"`
		} `json:"gateway"`
	}
	if json.Unmarshal(b, &c) != nil {
		return previous{}
	}
	var p previous
	if t := c.Gateway.Auth.Token; len(t) >= minToken && len(t) <= maxToken && printable(t) {
		p.token = messages.Secret(t)
	}
	if c.Gateway.Port >= 1024 && c.Gateway.Port <= 65535 {
		p.port = c.Gateway.Port
	}
	return p
}
