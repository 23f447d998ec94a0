package openclawtest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// freePort is a port that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

type managed struct {
	env  map[string]string
	port int
	code chan int
	stop context.CancelFunc
	out  *memoryLog
}

func prepareManaged(t testing.TB, config string) *managed {
	t.Helper()
	dir := t.TempDir()
	m := &managed{port: freePort(t), code: make(chan int, 1), out: &memoryLog{}}
	if config == "" {
		config = `{"gateway":{"mode":"local","bind":"loopback","port":%PORT%,"auth":{"mode":"token","token":"` + testToken + `"}},
			"agents":{"defaults":{"maxConcurrent":3,"workspace":"w"}},"models":{"mode":"replace"},"logging":{"file":"%DIR%/gateway.log"}}`
	}
	config = strings.NewReplacer("%PORT%", fmt.Sprint(m.port), "%DIR%", dir).Replace(config)
	path := filepath.Join(dir, "openclaw.json")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	m.env = map[string]string{"OPENCLAW_CONFIG_PATH": path, "OPENCLAW_STATE_DIR": filepath.Join(dir, "state"),
		"DASH_SIM_TIME_SCALE": "0.05", "DASH_SIM_LOG": filepath.Join(dir, "truth.jsonl")}
	return m
}

func (m *managed) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.code <- RunManaged(ctx, func(name string) string { return m.env[name] }, slog.New(slog.NewTextHandler(m.out, nil)))
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func (m *managed) exit(t testing.TB) int {
	t.Helper()
	select {
	case code := <-m.code:
		return code
	case <-time.After(patience):
		t.Fatal("did not exit")
		return 0
	}
}

func (m *managed) probe(t testing.TB, path string) (int, string) {
	t.Helper()
	g := &Gateway{addr: fmt.Sprintf("127.0.0.1:%d", m.port)}
	return httpDo(t, g, "GET", path, "", nil)
}

func TestManagedStartsServesAndDrains(t *testing.T) {
	t.Parallel()
	m := prepareManaged(t, "")
	m.env["DASH_SIM_STARTUP"] = "30s"
	m.start(t)
	starting := false
	eventually(t, "ready", func() bool {
		code, _ := m.probe(t, "/readyz")
		starting = starting || code == 503
		return code == 200
	})
	if !starting {
		t.Error("readyz never said 503 while starting")
	}
	c := dial(t, &Gateway{addr: fmt.Sprintf("127.0.0.1:%d", m.port)})
	lanes := c.must("diagnostics.lanes", obj{})
	if lanes.get(t, "lanes.0.maxConcurrent") != 3.0 {
		t.Fatalf("lanes %s", lanes.raw)
	}
	config := c.must("config.get", obj{})
	if strings.Contains(string(config.raw), testToken) {
		t.Fatal("config.get shows the token")
	}
	id := c.startRun("m1", "agent:main:m", "[[delay=150]]", nil)
	m.stop()
	if f := c.answer(id, 1); f.get(t, "status") != "ok" {
		t.Fatalf("final %s", f.raw)
	}
	if code := c.closeCode(); code != 1012 {
		t.Fatalf("close %d", code)
	}
	if code := m.exit(t); code != 0 {
		t.Fatalf("exit %d", code)
	}
	if data, err := os.ReadFile(filepath.Join(filepath.Dir(m.env["DASH_SIM_LOG"]), "gateway.log")); err != nil || !strings.Contains(string(data), "[gateway] ready") {
		t.Fatalf("gateway log %q, %v", data, err)
	}
	f, err := os.Open(m.env["DASH_SIM_LOG"])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if lines, err := ReadLog(f); err != nil || len(lines) != 3 {
		t.Fatalf("log %v, %v", lines, err)
	}
}

func TestManagedRefusals(t *testing.T) {
	t.Parallel()
	rows := map[string]struct {
		config string
		why    string
	}{
		"unknown top-level key": {`{"gateway":{"mode":"local","port":%PORT%,"auth":{"token":"x"}},"nope":1}`, "nope"},
		"unknown gateway key":   {`{"gateway":{"mode":"local","port":%PORT%,"prot":1,"auth":{"token":"x"}}}`, "gateway.prot"},
		"no mode":               {`{"gateway":{"port":%PORT%,"auth":{"token":"x"}}}`, "gateway.mode"},
		"no JSON":               {`{`, "configuration"},
		"no token":              {`{"gateway":{"mode":"local","port":%PORT%}}`, "token"},
		"bad lane limit":        {`{"gateway":{"mode":"local","port":%PORT%,"auth":{"token":"x"}},"agents":{"defaults":{"maxConcurrent":0}}}`, "maxConcurrent"},
	}
	for name, r := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := prepareManaged(t, r.config)
			m.start(t)
			if code := m.exit(t); code != 78 {
				t.Fatalf("exit %d", code)
			}
			m.out.mu.Lock()
			defer m.out.mu.Unlock()
			if !strings.Contains(m.out.buf.String(), r.why) {
				t.Fatalf("said %q", m.out.buf.String())
			}
		})
	}
}

func TestManagedCrashesAsTold(t *testing.T) {
	t.Parallel()
	m := prepareManaged(t, "")
	m.env["DASH_SIM_CRASH_AFTER"] = "soon"
	m.start(t)
	if code := m.exit(t); code != 78 {
		t.Fatalf("a duration that is none: exit %d", code)
	}
	m.env["DASH_SIM_CRASH_AFTER"], m.env["DASH_SIM_STARTUP"] = "300ms", "1ms"
	m.start(t)
	if code := m.exit(t); code != 137 {
		t.Fatalf("exit %d", code)
	}
}

func TestManagedConflicts(t *testing.T) {
	t.Parallel()
	m := prepareManaged(t, "")
	m.start(t)
	eventually(t, "ready", func() bool { code, _ := m.probe(t, "/readyz"); return code == 200 })
	second := prepareManaged(t, "")
	second.env["OPENCLAW_STATE_DIR"] = m.env["OPENCLAW_STATE_DIR"]
	second.start(t)
	if code := second.exit(t); code != 78 {
		t.Fatalf("second on the same state folder: exit %d", code)
	}
	third := prepareManaged(t, "")
	third.env["OPENCLAW_CONFIG_PATH"] = m.env["OPENCLAW_CONFIG_PATH"]
	third.start(t)
	if code := third.exit(t); code != 1 {
		t.Fatalf("port taken: exit %d", code)
	}
	if code, _ := m.probe(t, "/readyz"); code != 200 {
		t.Fatalf("the living gateway was harmed: %d", code)
	}
}

func TestManagedCrashKeepsState(t *testing.T) {
	t.Parallel()
	m := prepareManaged(t, "")
	m.start(t)
	eventually(t, "ready", func() bool { code, _ := m.probe(t, "/readyz"); return code == 200 })
	g := &Gateway{addr: fmt.Sprintf("127.0.0.1:%d", m.port)}
	c := dial(t, g)
	device := c.must("gateway.identity.get", obj{}).get(t, "deviceId")
	c.startRun("k1", "agent:main:k", "[[delay=60000]]", nil)
	sim(t, g, `{"crash":true}`)
	if code := m.exit(t); code != 137 {
		t.Fatalf("exit %d", code)
	}
	m.start(t)
	eventually(t, "ready", func() bool { code, _ := m.probe(t, "/readyz"); return code == 200 })
	c = dial(t, g)
	if again := c.must("gateway.identity.get", obj{}).get(t, "deviceId"); again != device {
		t.Fatalf("device id %v, was %v", again, device)
	}
	if row := listRow(t, c, "agent:main:k"); row["hasActiveRun"] != true || row["abortedLastRun"] != true {
		t.Fatalf("row %v", row)
	}
}

func TestRunSim(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	port := freePort(t)
	log := filepath.Join(t.TempDir(), "truth.jsonl")
	done := make(chan error, 1)
	go func() {
		done <- RunSim(ctx, SimConfig{Listen: fmt.Sprintf("127.0.0.1:%d", port), Token: testToken, LogFile: log, Gateways: 1}, nil)
	}()
	g := &Gateway{addr: fmt.Sprintf("127.0.0.1:%d", port)}
	eventually(t, "ready", func() bool { code, _ := httpDo(t, g, "GET", "/readyz", "", nil); return code == 200 })
	c := dial(t, g)
	c.run("s1", "agent:main:s", "x", nil)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := ReadLog(f)
	if err != nil || len(lines) != 3 || lines[0].Gateway != "sim-0" {
		t.Fatalf("log %+v, %v", lines, err)
	}
	for name, bad := range map[string]SimConfig{
		"no token":      {},
		"too many":      {Token: "t", Gateways: 5000},
		"port overflow": {Token: "t", Listen: "127.0.0.1:65530", Gateways: 10},
		"no port":       {Token: "t", Listen: "localhost"},
		"bad scale":     {Token: "t", TimeScale: -1},
	} {
		if err := RunSim(context.Background(), bad, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.MaxSessions, c.MaxFinished, c.MaxEntries = 20, 30, 6 })
	c := dial(t, b.g)
	for i := range 100 {
		c.run(fmt.Sprint("b", i), fmt.Sprint("agent:main:b", i), "x", nil)
	}
	for i := range 10 {
		c.run(fmt.Sprint("e", i), "agent:main:long", "x", nil)
	}
	s := b.g.Stats()
	if s.Sessions != 20 || s.Finished != 30 || s.Running != 0 || s.Waiting != 0 {
		t.Fatalf("stats %+v", s)
	}
	roles, _, _ := history(t, c, "agent:main:long")
	if len(roles) != 6 {
		t.Fatalf("%d entries", len(roles))
	}
	if got := replyText(t, c.run("e10", "agent:main:long", "x", nil)); got != "ECHO(11): x" {
		t.Fatalf("reply %q: trimmed entries must still count", got)
	}
	// A forgotten key runs again; that is the stated policy.
	if got := b.log.story(t, "b0"); got != "accepted started finished" {
		t.Fatalf("log %q", got)
	}
	c.run("b0", "agent:main:b0", "x", nil)
	if got := b.log.story(t, "b0"); got != "accepted started finished accepted started finished" {
		t.Fatalf("log %q", got)
	}
}

// TestTenThousandRunsFitOneProcess holds 200 gateways with 50 running sessions each.
func TestTenThousandRunsFitOneProcess(t *testing.T) {
	const gateways, sessions = 200, 50
	log := filepath.Join(t.TempDir(), "truth.jsonl")
	f, err := NewFleet(SimConfig{Listen: "127.0.0.1:0", Gateways: gateways, Token: testToken, MaxConcurrent: sessions, RunTime: time.Hour, LogFile: log}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := f.Start(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for i, g := range f.Gateways() {
		c := dial(t, g)
		for s := range sessions {
			c.start("agent", obj{"message": "work", "idempotencyKey": fmt.Sprintf("g%d-s%d", i, s), "sessionKey": fmt.Sprint("agent:main:s", s), "timeout": 7200})
		}
	}
	eventually(t, "10,000 runs at once", func() bool {
		running := 0
		for _, g := range f.Gateways() {
			running += g.Stats().Running
		}
		return running == gateways*sessions
	})
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("heap in use %d MB, system %d MB, goroutines %d (with %d test clients in the same process)", m.HeapInuse>>20, m.Sys>>20, runtime.NumGoroutine(), gateways)
	if m.HeapInuse > 200<<20 {
		t.Errorf("heap in use %d MB", m.HeapInuse>>20)
	}
	if n := runtime.NumGoroutine(); n > gateways*20 {
		t.Errorf("%d goroutines for %d runs: a run must not own one", n, gateways*sessions)
	}
}

// BenchmarkRuns measures whole runs without run time over one socket.
func BenchmarkRuns(b *testing.B) {
	x := setup(b, func(c *Config) { c.MaxConcurrent, c.ReportBytes, c.Log = 64, 0, nil })
	c := dial(b, x.g)
	b.ReportAllocs()
	b.ResetTimer()
	var ids []string
	for i := range b.N {
		id := fmt.Sprint("bench", i)
		c.write(string(encode(map[string]any{"type": "req", "id": id, "method": "agent", "params": obj{"message": "work", "idempotencyKey": id, "sessionKey": fmt.Sprint("agent:main:s", i%64), "timeout": 600}})))
		ids = append(ids, id)
		if i%64 == 63 {
			c.answer(ids[i], 1)
			c.mu.Lock()
			c.frames = nil
			c.mu.Unlock()
		}
	}
	eventually(b, "all finished", func() bool { s := x.g.Stats(); return s.Running+s.Waiting == 0 })
}
