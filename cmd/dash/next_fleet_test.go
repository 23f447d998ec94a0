package main

import (
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// serveNext starts a node with two simulated gateways, which also starts
// managed ones, simulated as well.
func serveNext(t *testing.T, a *advised, flags ...string) *person {
	t.Helper()
	return startNext(t, a, t.TempDir(), flags...)
}

func startNext(t *testing.T, a *advised, data string, flags ...string) *person {
	t.Helper()
	dash, err := exec.LookPath("dash")
	if err != nil {
		t.Fatal(err)
	}
	flags = append([]string{"--sim-gateways", "2", "--openclaw-auto-start", "--openclaw-command", dash + " sim --managed"}, flags...)
	return &person{advised: a, flags: flags, node: serveDrill(t, data, "", place{flags})}
}

// simulator is a gateway that the test stops and starts.
func simulator(t *testing.T, cfg openclawtest.Config) *openclawtest.Gateway {
	t.Helper()
	sim, err := openclawtest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Stop(t.Context()) }) // cannot fail
	return sim
}

func secretIn(t *testing.T, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func followFleet(t *testing.T, a *advised) {
	data := t.TempDir()
	p := startNext(t, a, data)
	p.until(t, `(?s)sim-0 +ready.*sim-1 +ready`, "gateway", "list")
	t.Run("token", func(t *testing.T) { followToken(t, p) })
	t.Run("provider", func(t *testing.T) { followProvider(t, p) })
	t.Run("drain", func(t *testing.T) { followDrain(t, p) })
	t.Run("pools", func(t *testing.T) { followPools(t, p) })
	t.Run("managed", func(t *testing.T) { followManaged(t, p) })
	t.Run("accounts", func(t *testing.T) { followAccounts(t, p) })
	t.Run("moves", func(t *testing.T) { followMoves(t, p) })
	t.Run("parked", func(t *testing.T) { followParked(t, p, data) })
}

func followToken(t *testing.T, p *person) {
	sim := simulator(t, openclawtest.Config{Token: "right"})
	p.types(t, exitOK, "gateway", "add", "gw-1", "--url", sim.URL(), "--token-file", secretIn(t, "wrong"))
	p.until(t, "quarantined", "gateway", "show", "gw-1")

	doctor := p.types(t, exitFailed, "doctor")
	p.follow(t, "SetGatewayToken", 0, doctor.err, "ID", "gw-1", "FILE", secretIn(t, "right"))
	p.until(t, "gw-1 +ready", "gateway", "list")

	// It moves, and its token is sent to the new address only with that.
	moved := simulator(t, openclawtest.Config{Token: "moved"})
	said := p.types(t, exitUsage, "gateway", "set", "gw-1", "--url", moved.URL()).err
	p.follow(t, "TokenForURL", 0, said, "ID", "gw-1", "URL", moved.URL(), "FILE", secretIn(t, "moved"))
	p.until(t, "gw-1 +ready", "gateway", "list")
	p.types(t, exitOK, "gateway", "set", "gw-1", "--url", sim.URL(), "--token-file", secretIn(t, "right"))

	// The same cause, mended at the gateway.
	p.types(t, exitOK, "gateway", "set", "gw-1", "--token-file", secretIn(t, "new"))
	p.until(t, "quarantined", "gateway", "show", "gw-1")
	address := sim.Addr()
	if err := sim.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	simulator(t, openclawtest.Config{Token: "new", Listen: address})
	p.follow(t, "ThenRestartGateway", 0, p.types(t, exitOK, "gateway", "show", "gw-1").out)
	p.until(t, "gw-1 +ready", "gateway", "list")

	// An owner that gave up is a bug of Dash; a restart of one that works is allowed.
	p.follow(t, "ReportThenRestartGateway", 0, p.fill("ReportThenRestartGateway", "gw-1"))
	p.until(t, "gw-1 +ready", "gateway", "list")
	p.types(t, exitOK, "gateway", "remove", "gw-1", "--yes")
}

// followProvider: a provider that was mended is tried at once.
func followProvider(t *testing.T, p *person) {
	sim := simulator(t, openclawtest.Config{Token: "t", Faults: openclawtest.Faults{ProviderFailRate: 1, ProviderFail: "401"}})
	p.types(t, exitOK, "pool", "set", "refused", "--max-concurrency", "0")
	p.types(t, exitOK, "gateway", "add", "gw-p", "--url", sim.URL(), "--token-file", secretIn(t, "t"), "--pool", "refused", "--wait")
	id := submitNext(t, p, "--pool", "refused")
	said := p.until(t, "fix the provider", "gateway", "show", "gw-p").out
	if err := sim.SetFaults(openclawtest.Faults{}); err != nil {
		t.Fatal(err)
	}
	p.follow(t, "MendProvider", 0, said)
	p.until(t, "gw-p +ready", "gateway", "list")
	p.types(t, exitOK, "task", "cancel", id)
	p.types(t, exitOK, "gateway", "remove", "gw-p", "--force", "--yes")
}

func followDrain(t *testing.T, p *person) {
	sim := simulator(t, openclawtest.Config{Token: "t", RunTime: 2 * time.Second})
	p.types(t, exitOK, "pool", "set", "slow", "--max-concurrency", "4")
	p.types(t, exitOK, "gateway", "add", "gw-1", "--url", sim.URL(), "--token-file", secretIn(t, "t"), "--pool", "slow", "--wait")
	id := submitNext(t, p, "--pool", "slow")
	p.until(t, "state +running", "task", "show", id)
	p.types(t, exitOK, "gateway", "drain", "gw-1", "--detach")
	p.follow(t, "ResumeGateway", 0, p.types(t, exitOK, "gateway", "show", "gw-1").out)
	p.until(t, "gw-1 +ready", "gateway", "list")

	// A drain waits for the task, and then the gateway can be removed.
	said := p.types(t, exitConflict, "gateway", "remove", "gw-1").err
	p.follow(t, "DrainFirst", 0, said)
	p.shows(t, []string{"task", "show", id}, "state +succeeded")
	id = submitNext(t, p, "--pool", "slow")
	said = p.types(t, exitOK, "task", "show", id).out
	p.follow(t, "ResumeOne", 0, said, "ID", "gw-1")
	p.until(t, "state +running", "task", "show", id)
	p.types(t, exitOK, "gateway", "drain", "gw-1")
	// The last task ends by its cancel and not before, however slow the machine.
	if err := sim.SetFaults(openclawtest.Faults{HangRate: 1}); err != nil {
		t.Fatal(err)
	}
	id = submitNext(t, p, "--pool", "slow")
	said = p.types(t, exitConflict, "gateway", "restart", "gw-1").err
	p.follow(t, "ResumeManaged", 0, said)
	p.until(t, "gw-1 +ready", "gateway", "list")
	p.until(t, "state +running", "task", "show", id)
	said = p.types(t, exitOK, "task", "cancel", id).err
	wantPrinted(t, p.follow(t, "TellsStopped", 0, said), "cancel +requested")
	p.until(t, "state +cancel", "task", "show", id)
	p.types(t, exitOK, "gateway", "drain", "gw-1")
	p.types(t, exitOK, "gateway", "remove", "gw-1")
	p.types(t, exitNotFound, "gateway", "show", "gw-1")
}

// submitNext returns the id of a new task.
func submitNext(t *testing.T, p *person, flags ...string) string {
	t.Helper()
	return strings.TrimSpace(p.types(t, exitOK, append([]string{"task", "submit", "--message", "Say hello.", "-o", "name"}, flags...)...).out)
}

func followPools(t *testing.T, p *person) {
	// A pool that is not there.
	said := p.types(t, exitUsage, "task", "submit", "--message", "x", "--pool", "batch").err
	p.follow(t, "MakePool", 0, said)
	id := submitNext(t, p, "--pool", "batch")

	// No gateway serves it.
	said = p.types(t, exitFailed, "doctor").err
	sim := simulator(t, openclawtest.Config{Token: "t", RunTime: time.Millisecond})
	add := p.line(t, stepAt{"AddGatewayToPool", 0}, said, []string{"ID", "gw-b", "ws://HOST:PORT", sim.URL(), "FILE", secretIn(t, "t")})
	p.types(t, exitOK, add...)
	p.until(t, "state +succeeded", "task", "show", id)

	// It cannot run what asks for more.
	picky := submitNext(t, p, "--pool", "batch", "--capability", "gpu")
	said = p.warned(t, `tasks unserved +warn +1 of the newest 1 that wait, no gateway of the pool batch has the capabilities gpu together`)
	if !strings.Contains(said, next.AddFittingGateway) || strings.Contains(said, "pool batch: it") {
		t.Errorf("the doctor advises\n%s", said)
	}
	sim = simulator(t, openclawtest.Config{Token: "t"})
	p.types(t, exitOK, p.line(t, stepAt{"AddFittingGateway", 0}, said, nil, "gw-c", "--url", sim.URL(), "--token-file", secretIn(t, "t"), "--pool", "batch", "--capability", "gpu")...)
	p.until(t, "state +succeeded", "task", "show", picky)
	p.types(t, exitOK, "gateway", "remove", "gw-b")
	p.types(t, exitOK, "gateway", "remove", "gw-c")

	// It would be a new tenant's own.
	p.follow(t, "OtherIDOrPool", 0, p.types(t, exitConflict, "tenant", "create", "batch").err)

	// It cannot go.
	p.follow(t, "SetPoolLimits", 0, p.types(t, exitConflict, "pool", "remove", "default", "--yes").err)

	// It is full.
	p.types(t, exitOK, "pool", "set", "batch", "--limit", "low=1")
	waits := submitNext(t, p, "--pool", "batch", "--priority", "low")
	said = p.types(t, exitFailed, "doctor").err
	p.follow(t, "AddGatewaysOrLimit", 0, said, "COUNT", "2")
	p.types(t, exitOK, "task", "cancel", waits, submitNext(t, p, "--pool", "batch", "--priority", "low"))

	// More slots are reserved than there are.
	p.types(t, exitOK, "pool", "set", "default", "--reserved", "critical=1000")
	said = p.says(t, "doctor").err
	p.follow(t, "AddOrReserveLess", 0, said, "CLASS=SLOTS", "critical=0")
	if again := p.says(t, "doctor"); strings.Contains(again.out, "reserved") {
		t.Errorf("still reserved:\n%s", again.out)
	}
	wantPrinted(t, p.follow(t, "AddGatewaysOrReserved", 0, p.fill("AddGatewaysOrReserved")), "--reserved", "--aging")
}

// followManaged breaks the provider while the gateway starts, so that its first turn fails.
func followManaged(t *testing.T, p *person) {
	p.types(t, exitOK, "pool", "set", "own", "--max-concurrency", "0")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().(*net.TCPAddr)
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	p.types(t, exitOK, "gateway", "add", "m-1", "--managed", "--pool", "own", "--port", fmt.Sprint(address.Port), "--env", "DASH_SIM_STARTUP=4s")
	order := func(faults string) bool {
		resp, err := http.Post("http://"+address.String()+"/__sim", "application/json", strings.NewReader(faults))
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	drillUntil(t, "the simulator listens", func() bool { return order(`{"provider_fail_rate":1,"provider_fail":"400"}`) })
	said := p.until(t, "degraded", "gateway", "show", "m-1").out
	config := filepath.Join(t.TempDir(), "openclaw.json")
	if err := os.WriteFile(config, []byte(`{"agents":{"defaults":{"model":{"primary":"fake/fake-2"}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p.follow(t, "SetManagedConfig", 0, said, "FILE", config)
	drillUntil(t, "the gateway has the configuration", func() bool {
		return holds(t, filepath.Dir(p.node.keyFile), "m-1", "fake-2")
	})
	p.until(t, `(?m)^config\s+hot$`, "gateway", "show", "m-1")
	order(`{"provider_fail_rate":0}`)
	p.types(t, exitOK, "task", "submit", "--pool", "own", "--message", "x", "--wait")
	p.until(t, "m-1 +ready", "gateway", "list")
	p.types(t, exitOK, "gateway", "remove", "m-1", "--force")
}

// holds says whether a file below a folder of that name holds the text.
func holds(t *testing.T, root, folder, text string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "/"+folder+"/") || !strings.HasSuffix(path, ".json") {
			return nil // files come and go
		}
		raw, err := os.ReadFile(path)
		found = found || err == nil && strings.Contains(string(raw), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func followAccounts(t *testing.T, p *person) {
	said := p.types(t, exitNotFound, "user", "set", "nobody@example.org", "--role", "viewer").err
	wantPrinted(t, p.follow(t, "ListUsers", 0, said), "EMAIL")
	said = p.types(t, exitUsage, "user", "set", "nobody@example.org").err
	wantPrinted(t, p.follow(t, "UserSetHelp", 0, said), "--role")

	stranger := &person{advised: p.advised, node: &drillNode{url: p.node.url, keyFile: p.node.keyFile, key: "dash_wrongwrong12_" + strings.Repeat("x", 43)}}
	said = stranger.types(t, exitAuth, "task", "list").err
	wantPrinted(t, p.follow(t, "CheckKey", 0, said), "admin")

	said = p.types(t, exitUsage, "task", "submit", "--message", "x", "--tenant", "acme").err
	wantPrinted(t, p.follow(t, "MakeTenant", 1, said), "default")
	p.follow(t, "MakeTenant", 0, said)
	p.types(t, exitOK, "task", "cancel", submitNext(t, p, "--tenant", "acme", "--delay", "1h"))

	// The last key that may do everything is kept until there is another one.
	first := strings.Split(p.node.key, "_")[1]
	said = p.types(t, exitConflict, "key", "revoke", first).err
	made := p.types(t, exitOK, p.line(t, stepAt{"MakeOtherAdminKey", 0}, said, []string{"NAME", "second"}, "-o", "json")...)
	p.types(t, exitConflict, "key", "revoke", first) // the new one would end with it
	p.types(t, exitOK, p.line(t, stepAt{"MakeOtherAdminKey", 1}, said, []string{"ID", first})...)
	p.node.key = keyOf(t, made.out)
	p.types(t, exitOK, "audit", "verify")

}

func followMoves(t *testing.T, p *person) {
	p.types(t, exitOK, "session", "create", "s-1")
	said := p.types(t, exitUsage, "session", "move", "s-1", "--gateway", "nowhere").err
	wantPrinted(t, p.follow(t, "ChooseGateway", 0, said), "sim-1 +ready")
	p.types(t, exitOK, "session", "move", "s-1", "--gateway", "sim-1")

	p.types(t, exitOK, "gateway", "add", "dead", "--url", "ws://127.0.0.1:1", "--token", "t")
	p.until(t, "unreachable", "gateway", "show", "dead")
	p.types(t, exitOK, "pool", "set", "away", "--max-concurrency", "0")
	p.types(t, exitOK, "gateway", "add", "dead-2", "--url", "ws://127.0.0.1:2", "--token", "t", "--pool", "away")
	p.until(t, "unreachable", "gateway", "show", "dead-2")
	said = p.types(t, exitConflict, "session", "move", "s-1", "--gateway", "dead").err
	wantPrinted(t, p.follow(t, "ChooseOtherGateway", 0, said), "sim-0 +ready")
	p.types(t, exitOK, "session", "move", "s-1", "--gateway", "sim-0")

	p.types(t, exitOK, "session", "send", "s-1", "--message", "x", "--wait")
	p.types(t, exitOK, "gateway", "set", "sim-1", "--capability", "gpu")
	id := submitNext(t, p, "--session", "s-1", "--capability", "gpu")
	p.follow(t, "MoveSession", 0, p.types(t, exitOK, "task", "show", id).out)
	p.until(t, "state +succeeded", "task", "show", id)
	p.types(t, exitOK, "session", "move", "s-1", "--gateway", "sim-0")

	said = p.types(t, exitOK, "task", "show", submitNext(t, p, "--pool", "away")).out
	wantPrinted(t, p.follow(t, "LookAtGateways", 0, said), "dead-2 +unreachable")

	p.types(t, exitOK, "gateway", "drain", "sim-0")
	said = p.types(t, exitConflict, "session", "move", "s-1", "--gateway", "sim-0").err
	p.follow(t, "OpenGatewayOrOther", 0, said)
	p.until(t, "sim-0 +ready", "gateway", "list")
	p.types(t, exitOK, "session", "move", "s-1", "--gateway", "sim-0")
}

// followParked parks sessions, one of them of another tenant, in the store of
// the stopped node: only a bug of Dash does so in life.
func followParked(t *testing.T, p *person, data string) {
	p.types(t, exitOK, "session", "create", "s-2")
	p.types(t, exitOK, "session", "create", "s-3")
	p.types(t, exitOK, "session", "create", "s-4", "--tenant", "acme")
	p.types(t, exitOK, "key", "create", "short", "--permission", "read", "--expires-in", "1h")
	p.node.end(t)
	park(t, p.advised, data, "default", "s-2")
	park(t, p.advised, data, "default", "s-3")
	park(t, p.advised, data, "acme", "s-4")
	key := p.node.key
	p = startNext(t, p.advised, data)
	p.node.key = key
	wantPrinted(t, p.follow(t, "MakeSuccessors", 0, p.warned(t, "keys +warn")), `short .* active .* 20\d\d-`)
	p.follow(t, "LookThenResumeSession", 0, p.types(t, exitOK, "session", "show", "s-2").out)
	p.types(t, exitOK, "session", "send", "s-2", "--message", "x", "--wait")
	send := []string{"session", "send", "--message", "x"}
	p.follow(t, "ResumeSession", 0, p.types(t, exitConflict, append(send, "s-3")...).err)
	p.types(t, exitOK, append(send, "s-3", "--wait")...)
	p.follow(t, "ResumeSession", 0, p.types(t, exitConflict, append(send, "s-4", "--tenant", "acme")...).err)
	id := strings.TrimSpace(p.types(t, exitOK, append(send, "s-4", "--tenant", "acme", "-o", "name")...).out)
	sim := simulator(t, openclawtest.Config{Token: "t"})
	add := p.line(t, stepAt{"AddGatewayToPool", 0}, p.types(t, exitOK, "task", "show", id).out, []string{"ID", "gw-a", "ws://HOST:PORT", sim.URL(), "FILE", secretIn(t, "t")})
	p.types(t, exitOK, add...)
	p.until(t, "state +succeeded", "task", "show", id)
	p.node.end(t)
}

// park writes parked sessions as the owner of a gateway does.
func park(t *testing.T, a *advised, data, tenant, id string) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Dir: data})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	s, err := db.Session(t.Context(), tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	s.State, s.Reason, s.NextStep = messages.SessionParked, "its actor failed", a.fill("LookThenResumeSession", "t-1", messages.SessionArgument(tenant, id))
	out, err := db.Commit(t.Context(), []persistence.Op{{Session: &persistence.SessionWrite{Session: s, AnyGeneration: true}}})
	if err != nil || out[0].Status != persistence.OK {
		t.Fatalf("park session %s: %v %v", id, out, err)
	}
}
