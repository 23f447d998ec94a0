package app

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
)

// nodeThatStarts is a node of whose gateways each names a program that leaves
// the file ran behind.
func nodeThatStarts(t *testing.T, change func(*config.Config)) (a *App, admin *api.Client, program []string, ran string) {
	t.Helper()
	dir := t.TempDir()
	ran = filepath.Join(dir, "ran")
	cfg := config.Default()
	cfg.Listen, cfg.Data, cfg.Node, cfg.OpenClawAutoStart = "127.0.0.1:0", filepath.Join(dir, "data"), "n", true
	cfg.OpenClawCommand = []string{"/bin/false"}
	if change != nil {
		change(&cfg)
	}
	a, admin = startProcess(t, cfg, "")
	t.Cleanup(func() { _ = a.Stop() })
	return a, admin, []string{"/bin/sh", "-c", "echo > " + ran}, ran
}

func fieldsOf(t *testing.T, err error) (fields []string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != string(messages.CodeInvalid) || e.NextStep == nil {
		t.Fatalf("%v, want invalid_request with a next step", err)
	}
	if e.Errors != nil {
		for _, f := range *e.Errors {
			fields = append(fields, f.Pointer)
		}
	}
	return fields
}

// TestAnAdminKeyRunsWhatTheNodePermits: not even the permission admin starts a
// program that the node's operator did not name.
func TestAnAdminKeyRunsWhatTheNodePermits(t *testing.T) {
	t.Parallel()
	a, admin, program, ran := nodeThatStarts(t, nil)
	in := filepath.Join(a.cfg.Data, "gateways", "gw")
	for name, c := range map[string]struct {
		managed api.CreateManaged
		fields  []string
	}{
		"another program":   {api.CreateManaged{Command: &program}, []string{"/managed/command"}},
		"more arguments":    {api.CreateManaged{Command: &[]string{"/bin/false", "x"}}, []string{"/managed/command"}},
		"preload":           {api.CreateManaged{Env: &map[string]string{"LD_PRELOAD": "/x.so", "OPENAI_API_KEY": "k", "PATH": "/x"}}, []string{"/managed/env/LD_PRELOAD", "/managed/env/PATH"}},
		"options":           {api.CreateManaged{Env: &map[string]string{"NODE_OPTIONS": "--require /x"}}, []string{"/managed/env/NODE_OPTIONS"}},
		"the gateway's own": {api.CreateManaged{Env: &map[string]string{"OPENCLAW_GATEWAY_TOKEN": "x"}}, []string{"/managed/env/OPENCLAW_GATEWAY_TOKEN"}},
		"Dash's folder":     {api.CreateManaged{StateDir: &in}, []string{"/managed/state_dir"}},
		"the root":          {api.CreateManaged{StateDir: new("/")}, []string{"/managed/state_dir"}},
		"a crooked path":    {api.CreateManaged{StateDir: new("/tmp/../etc/x")}, []string{"/managed/state_dir"}},
	} {
		_, err := admin.CreateGateway(t.Context(), api.CreateGateway{Id: "gw", Managed: &c.managed})
		if got := fieldsOf(t, err); !reflect.DeepEqual(got, c.fields) {
			t.Errorf("%s: fields %v, want %v", name, got, c.fields)
		}
		if name == "preload" && !strings.Contains(err.Error(), "*_API_KEY") {
			t.Errorf("%v does not list the names that are permitted", err)
		}
	}
	own := []string{"/bin/false"}
	made := must(admin.CreateGateway(t.Context(), api.CreateGateway{Id: "gw", Managed: &api.CreateManaged{Command: &own}}))(t)
	_, err := admin.UpdateGateway(t.Context(), "gw", api.UpdateGateway{Managed: &api.UpdateManaged{Command: &program}}, api.WithVersion(made.Version))
	if got := fieldsOf(t, err); !reflect.DeepEqual(got, []string{"/managed/command"}) {
		t.Errorf("fields %v", got)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the program ran")
	}
}

// TestAStoredCommandIsCheckedAtItsStart: a row of another node, an older release
// or an archive starts no program that this node does not permit, and the gateway
// says so.
func TestAStoredCommandIsCheckedAtItsStart(t *testing.T) {
	t.Parallel()
	a, admin, program, ran := nodeThatStarts(t, nil)
	for id, m := range map[string]*messages.Managed{
		"command": {Command: program}, "env": {Command: []string{"/bin/false"}, Env: map[string]string{"LD_PRELOAD": "/x.so"}}, "folder": {StateDir: a.cfg.Data},
	} {
		g := must(a.repos.Gateways.Create(t.Context(), messages.Gateway{ID: id, Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, Node: "n",
			Managed: m, MaxConcurrency: 1, Weight: 1, CreatedAt: messages.Now()}))(t)
		if err := a.fleet.StartGateway(t.Context(), g, messages.GatewayStatus{}); err != nil {
			t.Fatal(err)
		}
		reaches(t, newCommands(a).gateways(), id, messages.GatewayQuarantined)
	}
	for id, want := range map[string][2]string{
		"command": {"one of its --managed-commands", "add"}, "env": {`"LD_PRELOAD" is none of those`, "leave it out"}, "folder": {"which is Dash's own", "a folder outside of Dash's own"},
	} {
		g := must(admin.GetGateway(t.Context(), id))(t)
		if !strings.Contains(text(g.Reason), want[0]) || !strings.Contains(text(g.NextStep), want[1]) {
			t.Errorf("%s: reason %q, next step %q", id, text(g.Reason), text(g.NextStep))
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the program ran")
	}
}

// TestAPermittedCommandRuns: the whole command stands in the node's list.
func TestAPermittedCommandRuns(t *testing.T) {
	t.Parallel()
	var program []string
	_, admin, _, ran := nodeThatStarts(t, func(c *config.Config) {
		program = []string{"/bin/sh", "-c", "echo > " + filepath.Join(filepath.Dir(c.Data), "ran")}
		c.ManagedCommands = config.Commands{{"/bin/true"}, program}
	})
	apart := filepath.Join(t.TempDir(), "state")
	must(admin.CreateGateway(t.Context(), api.CreateGateway{Id: "gw", Managed: &api.CreateManaged{Command: &program, StateDir: &apart}}))(t)
	eventually(t, "the program to run", func() bool { _, err := os.Stat(ran); return err == nil })
}

// TestTheAuditLogKeepsWhatWillRun: command, names of variables, folder and a
// digest of the configuration, however long they are, and no secret.
func TestTheAuditLogKeepsWhatWillRun(t *testing.T) {
	t.Parallel()
	long := []string{"/bin/false", strings.Repeat("x", 4000)}
	_, admin, _, _ := nodeThatStarts(t, func(c *config.Config) { c.ManagedCommands = config.Commands{long} })
	apart := filepath.Join(t.TempDir(), "state")
	must(admin.CreateGateway(t.Context(), api.CreateGateway{Id: "gw", Managed: &api.CreateManaged{
		Command: &long, StateDir: &apart, Env: &map[string]string{"OPENAI_API_KEY": "s3cret-env"}, Config: &map[string]any{"models": map[string]any{"key": "s3cret-config"}},
	}}))(t)
	var after map[string]any
	for _, r := range must(admin.ListAudit(t.Context(), api.Page{}))(t).Items {
		if r.Action == "createGateway" {
			after, _ = r.Detail["after"].(map[string]any)
		}
	}
	raw := must(json.Marshal(after))(t)
	all := string(raw)
	if strings.Contains(all, "s3cret") {
		t.Errorf("a secret is on record: %s", all)
	}
	for _, want := range []string{
		`"managed_state_dir":"` + apart + `"`, `"managed_env":["OPENAI_API_KEY"]`, `"managed_config_sha256":"8df62b35e5d7ea8dfaf98fd09c22f99ac2cdee75a855e152d15c2a49f7c3c0ff"`,
		`"begins":"[\"/bin/false\",\"xxx`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is missing in %s", want, all)
		}
	}
}
