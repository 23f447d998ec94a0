package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/messages"
)

func flags(t testing.TB, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dash.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func origin(l *config.Loaded, key string) string {
	i := slices.IndexFunc(l.Effective(), func(e config.Effective) bool { return e.Key == key })
	return l.Effective()[i].Origin
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "listen: 127.0.0.1:1\nnode: from-file\nregion: from-file\nretention: 1h\n")
	environ := []string{"HOME=/home/u", "DASH_CONFIG=" + path, "DASH_LISTEN=127.0.0.1:2", "DASH_NODE=from-env", "DASH_LOG_LEVEL="}
	l, err := config.Load(config.Sources{Flags: flags(t, "--listen", "127.0.0.1:3"), Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Listen, want.Node, want.Region, want.Retention = "127.0.0.1:3", "from-env", "from-file", time.Hour
	want.Data = "/home/u/.local/share/dash"
	if diff := cmp.Diff(want, l.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	for key, want := range map[string]string{
		"listen": "flag --listen", "node": "env DASH_NODE", "region": "file " + path, "log-level": "default", "data": "default",
	} {
		if got := origin(l, key); got != want {
			t.Errorf("origin of %s = %q, want %q", key, got, want)
		}
	}
}

func TestConfigFlagWinsOverVariable(t *testing.T) {
	t.Parallel()
	a, b := writeFile(t, "node: a\n"), writeFile(t, "node: b\n")
	l, err := config.Load(config.Sources{Flags: flags(t, "--config", b), Environ: []string{"HOME=/h", "DASH_CONFIG=" + a}})
	if err != nil {
		t.Fatal(err)
	}
	if l.Node != "b" || l.File != b {
		t.Errorf("node %q of file %q, want b of %q", l.Node, l.File, b)
	}
}

func TestEveryTypeFromEverySource(t *testing.T) {
	t.Parallel()
	want := config.Default()
	want.Dev, want.Data, want.Node, want.SimGateways = true, "/d", "n", 7
	want.OpenClawProbeInterval = 90 * time.Second
	want.OpenClawCommand = []string{"/opt/open claw", "gateway", "run"}
	want.ManagedCommands = config.Commands{{"/opt/open claw", "gateway", "run"}, {"/bin/b", "x;y", "it's", ""}}
	sources := map[string]config.Sources{
		"flags": {Flags: flags(t, "--dev", "--data=/d", "--node=n", "--sim-gateways=7", "--metrics-public=false",
			"--openclaw-probe-interval=1m30s", `--openclaw-command='/opt/open claw' gateway run`,
			`--managed-commands='/opt/open claw' gateway run`, `--managed-commands=/bin/b x\;y "it's" ''`)},
		"environment": {Environ: []string{"DASH_DEV=true", "DASH_DATA=/d", "DASH_NODE=n", "DASH_SIM_GATEWAYS=7", "DASH_METRICS_PUBLIC=false",
			"DASH_OPENCLAW_PROBE_INTERVAL=90", `DASH_OPENCLAW_COMMAND="/opt/open claw" gateway run`,
			`DASH_MANAGED_COMMANDS='/opt/open claw' gateway run; /bin/b 'x;y' "it's" '';`}},
		"file": {Flags: flags(t, "--config", writeFile(t, "dev: true\ndata: /d\nnode: n\nsim_gateways: 7\nmetrics-public: false\n"+
			"openclaw-probe-interval: 90\nopenclaw_command: [/opt/open claw, gateway, run]\nmanaged_commands:\n- \"'/opt/open claw' gateway run\"\n- /bin/b 'x;y' \"it's\" ''\n"))},
	}
	for name, src := range sources {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := config.Load(src)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, l.Config); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDev(t *testing.T) {
	t.Parallel()
	l, err := config.Load(config.Sources{Flags: flags(t, "--dev"), Environ: []string{"HOME=/h"}})
	if err != nil {
		t.Fatal(err)
	}
	if l.Data != "" || l.SimGateways != 3 || !l.MetricsPublic {
		t.Errorf("data %q, sim gateways %d, metrics public %v; want a temporary folder, 3, true", l.Data, l.SimGateways, l.MetricsPublic)
	}
	l, err = config.Load(config.Sources{Flags: flags(t, "--dev", "--sim-gateways=0", "--data=/keep"), Environ: nil})
	if err != nil {
		t.Fatal(err)
	}
	if l.Data != "/keep" || l.SimGateways != 0 {
		t.Errorf("data %q, sim gateways %d; what was set must win over --dev", l.Data, l.SimGateways)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tests := []struct {
		name    string
		args    []string
		file    string
		environ []string
		want    string // part of the message, next step and fields
	}{
		{"unknown key", nil, "lisen: x\n", nil, "did you mean listen?"},
		{"nested key", nil, "openclaw:\n  command: /x\n", nil, "unknown setting"},
		{"nested below a setting", nil, "data:\n  path: /x\n", nil, "not nested"},
		{"twice", nil, "log-level: info\nlog_level: debug\n", nil, "set twice"},
		{"not yaml", nil, "listen: [\n", nil, "not valid YAML"},
		{"not a mapping", nil, "- a\n- b\n", nil, "not valid YAML"},
		{"missing file", []string{"--config", filepath.Join(dir, "none")}, "", nil, "no such file"},
		{"folder as file", []string{"--config", dir}, "", nil, "folder"},
		{"wrong type", nil, "sim-gateways: many\n", nil, "not a whole number"},
		{"fraction", nil, "sim-gateways: 1.5\n", nil, "not a whole number"},
		{"wrong bool", nil, "", []string{"DASH_DEV=perhaps"}, "neither true nor false (from env DASH_DEV)"},
		{"wrong duration", nil, "", []string{"DASH_RETENTION=soon"}, "not a duration"},
		{"listen", []string{"--listen=7373"}, "", nil, "not an address"},
		{"listen port", []string{"--listen=:77777"}, "", nil, "not an address"},
		{"pprof for everybody", []string{"--pprof-listen=:6060"}, "", nil, "not a loopback address"},
		{"pprof by name", []string{"--pprof-listen=localhost:6060"}, "", nil, "not a loopback address"},
		{"half tls", []string{"--tls-cert=c"}, "", nil, "go together"},
		{"postgres without a url", []string{"--store=postgres"}, "", nil, "postgres-url: is not set, and the engine postgres needs it"},
		{"postgres with another url", []string{"--store=postgres", "--postgres-url=mysql://u:secret@h/db"}, "", nil, "begins with postgres://"},
		{"redis without a url", []string{"--store=redis"}, "", nil, "redis-url: is not set"},
		{"redis without postgres", []string{"--store=redis", "--redis-url=redis://h"}, "", nil, "postgres-url: is not set, and the engine redis needs it"},
		{"redis beside postgres with another url", []string{"--store=postgres", "--postgres-url=postgres://h/d", "--redis-url=http://u:secret@h"}, "", nil, "redis-url: is not a URL that begins with redis://"},
		{"redis beside sqlite with another url", []string{"--redis-url=h:6379"}, "", nil, "redis-url: is not a URL that begins with redis://"},
		{"loss", []string{"--redis-accept-loss=2h"}, "", nil, "out of range"},
		{"backups too often", []string{"--backup-every=5s"}, "", nil, "backup-every: 5s is out of range"},
		{"no backup kept", []string{"--backup-keep=0"}, "", nil, "backup-keep: 0 is out of range"},
		{"backups to a secret key", []string{"--backup-encrypt-to=AGE-SECRET-KEY-1X"}, "", nil, "not a public key of age"},
		{"backups that vanish", []string{"--dev", "--backup-every=1h"}, "", nil, "is removed at the end"},
		{"engine", []string{"--store=mysql"}, "", nil, `no engine "mysql"`},
		{"node", []string{"--node=a b"}, "", nil, "not a valid name"},
		{"region", []string{"--region=a b"}, "", nil, "not a valid name"},
		{"tenant's limit", []string{"--tenant-rate-limit=-1"}, "", nil, "tenant-rate-limit: -1 is out of range"},
		{"collector without a scheme", []string{"--otel-endpoint=127.0.0.1:4318"}, "", nil, "otel-endpoint: it is not"},
		{"collector with a password", []string{"--otel-endpoint=http://a:secret@c:4318"}, "", nil, "a password does not belong into it"},
		{"networks", []string{"--gateway-networks=10.0.0.0/8 everywhere"}, "", nil, `"everywhere" is not a network`},
		{"proxies", []string{"--trusted-proxies=10.0.0.1"}, "", nil, `trusted-proxies: "10.0.0.1" is not a network`},
		{"sim gateways", []string{"--sim-gateways=-1"}, "", nil, "out of range"},
		{"relative command", []string{"--openclaw-command=openclaw gateway"}, "", nil, "not an absolute path"},
		{"relative managed command", []string{"--managed-commands=/bin/a; openclaw gateway"}, "", nil, "not an absolute path"},
		{"open quotation in a managed command", nil, "managed-commands: [\"'/x\"]\n", nil, "inside a quotation"},
		{"open quotation", []string{"--openclaw-command='/x"}, "", nil, "inside a quotation"},
		{"startup timeout", []string{"--openclaw-startup-timeout=0s"}, "", nil, "out of range"},
		{"retention", []string{"--retention=1s"}, "", nil, "too short"},
		{"public URL without a scheme", []string{"--public-url=host/dash"}, "", nil, "does not begin with http:// or https://"},
		{"public URL of another scheme", []string{"--public-url=ftp://host/dash"}, "", nil, "does not begin with http:// or https://"},
		{"public URL with a host as scheme", []string{"--public-url=host:80/dash"}, "", nil, "does not begin with http:// or https://"},
		{"public URL without a host", []string{"--public-url=https:///dash"}, "", nil, "names no host"},
		{"public URL with a port alone", []string{"--public-url=https://:443/dash"}, "", nil, "names no host"},
		{"public URL with a query", []string{"--public-url=https://host/dash?a=b"}, "", nil, "a query or a fragment"},
		{"public URL with an empty query", []string{"--public-url=https://host/dash?"}, "", nil, "a query or a fragment"},
		{"public URL with a fragment", []string{"--public-url=https://host/dash#top"}, "", nil, "a query or a fragment"},
		{"public URL with a password", []string{"--public-url=https://u:p@host/"}, "", nil, "a user or a password"},
		{"public URL with dots", []string{"--public-url=https://host/a/../b"}, "", nil, "empty or dotted parts"},
		{"public URL with escaped dots", []string{"--public-url=https://host/%2e%2e/b"}, "", nil, "empty or dotted parts"},
		{"public URL that ends a link", []string{"--public-url=https://host>;rel=x,<http://other/"}, "", nil, "names no host"},
		{"public URL with a quote", []string{`--public-url=https://host"x/`}, "", nil, "names no host"},
		{"public URL without the port", []string{"--public-url=https://host:/dash"}, "", nil, "names no port"},
		{"public URL with a port too high", []string{"--public-url=https://host:99999"}, "", nil, "names no port"},
		{"public URL with a line break", []string{"--public-url=https://host/a\nb"}, "", nil, "is not a URL"},
		{"session retention", []string{"--session-retention=59s"}, "", nil, "session-retention: 59s is too short"},
		{"session idle", []string{"--session-idle=-1h"}, "", nil, "session-idle: -1h0m0s is too short"},
		{"level", []string{"--log-level=loud"}, "", nil, "no level"},
		{"format", []string{"--log-format=xml"}, "", nil, "no format"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := tt.args
			if tt.file != "" {
				args = append(slices.Clone(args), "--config", writeFile(t, tt.file))
			}
			_, err := config.Load(config.Sources{Flags: flags(t, args...), Environ: append([]string{"HOME=/h"}, tt.environ...)})
			var e *messages.Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want a *messages.Error", err)
			}
			text := e.Error()
			for _, f := range e.Fields {
				text += " " + f.Pointer + " " + f.Detail
			}
			if !strings.Contains(text, tt.want) || e.NextStep == "" {
				t.Errorf("error %q (next step %q), want it to hold %q and a next step", text, e.NextStep, tt.want)
			}
		})
	}
}

func TestPublicURL(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"":                              "",
		"https://host":                  "https://host",
		"https://host/":                 "https://host",
		"http://host:8080/dash/":        "http://host:8080/dash",
		"https://host/dash/api/v1/":     "https://host/dash",
		"https://host/api/v1":           "https://host",
		"https://[2001:db8::1]:8/a/b":   "https://[2001:db8::1]:8/a/b",
		`https://host/a"><script>`:      "https://host/a%22%3E%3Cscript%3E",
		"HTTPS://host/with%20space/%2F": "https://host/with%20space/%2F",
	} {
		c := config.Config{PublicURL: given}
		if got, err := c.Public(); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", given, got, err, want)
		}
	}
}

func TestGatewayNetworks(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"10.1.2.3/16 fd00::/8", "10.1.2.3/16,fd00::/8", " 10.1.0.0/16, fd00::/8 "} {
		l, err := config.Load(config.Sources{Flags: flags(t, "--data=/d", "--gateway-networks="+text), Environ: []string{"HOME=/h"}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.Networks()
		if want := "[10.1.0.0/16 fd00::/8]"; err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
}

func TestNoHome(t *testing.T) {
	t.Parallel()
	if _, err := config.Load(config.Sources{}); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("error %v, want one that asks for --data", err)
	}
}

func TestEnvironmentWarnings(t *testing.T) {
	t.Parallel()
	l, err := config.Load(config.Sources{Environ: []string{
		"HOME=/h", "DASH_LISTEM=x", "DASH_URL=http://x", "DASH_API_KEY=k", "DASH_SERVICE_HOST=10.0.0.1", "DASH_PORT_7373_TCP=x", "DASH_TEST_POSTGRES_URL=x",
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"DASH_LISTEM is set, but Dash has no such setting (did you mean listen?)"}
	if diff := cmp.Diff(want, l.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestEverySettingIsNamed keeps a new field of Config from being left without
// a key or a help text, and from having a name that another source cannot spell.
func TestEverySettingIsNamed(t *testing.T) {
	t.Parallel()
	fs := flags(t)
	for f := range reflect.TypeFor[config.Config]().Fields() {
		key, help := f.Tag.Get("key"), f.Tag.Get("help")
		if key == "" || help == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("field %s has key %q and help %q", f.Name, key, help)
		}
		if fs.Lookup(key) == nil {
			t.Errorf("field %s has no flag --%s", f.Name, key)
		}
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	if got := (config.Config{Data: "/d"}).KeyFile(); got != "/d/admin.key" {
		t.Errorf("key file %q, want /d/admin.key", got)
	}
	if got := (config.Config{Data: "/d", AdminKeyFile: "/k"}).KeyFile(); got != "/k" {
		t.Errorf("key file %q, want /k", got)
	}
}

func FuzzFile(f *testing.F) {
	f.Add("listen: 127.0.0.1:1\n")
	f.Add("openclaw-command: [/x, 1, true, 2.5]\n")
	f.Add("a: &a [*a]\n")
	f.Add("1: 2\n? [x]\n: y\n")
	f.Add("data: ~\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := config.Load(config.Sources{Flags: flags(t, "--config", writeFile(t, text)), Environ: []string{"HOME=/h"}})
		if err == nil {
			if err := l.Validate(); err != nil {
				t.Errorf("Load accepted what Validate refuses: %v", err)
			}
			return
		}
		var e *messages.Error
		if !errors.As(err, &e) || e.NextStep == "" {
			t.Errorf("error %v has no next step", err)
		}
	})
}

func FuzzSplitWords(f *testing.F) {
	f.Add(`/bin/x 'a b' "c d" e\ f ''`)
	f.Fuzz(func(t *testing.T, s string) {
		words, err := config.SplitWords(s)
		if err != nil {
			return
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		again, err := config.SplitWords(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, words) {
			t.Errorf("%q splits into %q, which quoted splits into %q (%v)", s, words, again, err)
		}
	})
}

// TestTraces: below a base URL, as OTEL_EXPORTER_OTLP_ENDPOINT is understood.
func TestTraces(t *testing.T) {
	for endpoint, want := range map[string]string{
		"": "", "http://c:4318": "http://c:4318/v1/traces", "https://c/otlp/": "https://c/otlp/v1/traces", "http://c/v1/traces": "http://c/v1/traces",
	} {
		if got, err := (config.Config{OTelEndpoint: endpoint}).Traces(); got != want || err != nil {
			t.Errorf("%q: %q %v, want %q", endpoint, got, err, want)
		}
	}
}
