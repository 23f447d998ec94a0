package redis

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/testserver"
	"github.com/prometheus/client_golang/prometheus"
)

// TestRefusesLoss opens servers with weaker settings, without and with the
// window that names them.
func TestRefusesLoss(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings map[string]string
		says     string
		accept   time.Duration // 0: never
	}{
		"no aof":      {map[string]string{"appendonly": "no"}, "CONFIG SET appendonly yes", time.Hour},
		"everysec":    {map[string]string{"appendfsync": "everysec"}, "CONFIG SET appendfsync always", 2 * time.Second},
		"no fsync":    {map[string]string{"appendfsync": "no"}, "CONFIG SET appendfsync always", 30 * time.Second},
		"rewrite":     {map[string]string{"no-appendfsync-on-rewrite": "yes"}, "CONFIG SET no-appendfsync-on-rewrite no", 30 * time.Second},
		"evicts":      {map[string]string{"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, "CONFIG SET maxmemory-policy noeviction", 0},
		"no CONFIG":   {map[string]string{"rename-command": `CONFIG ""`}, "CONFIG GET is forbidden", time.Second},
		"not primary": {map[string]string{"replicaof": "127.0.0.1 1"}, "replica", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.NewRedis(t, testserver.RedisOptions{Settings: c.settings})
			_, err := Open(t.Context(), Config{URL: server.URL()})
			var refused *DurabilityError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("open: %v", err)
			}
			if c.accept == 0 {
				if _, err := Open(t.Context(), Config{URL: server.URL(), AcceptLoss: 24 * time.Hour}); !errors.As(err, &refused) {
					t.Fatalf("open with a flag: %v", err)
				}
				return
			}
			if !strings.Contains(err.Error(), "--redis-accept-loss="+c.accept.String()) {
				t.Errorf("the flag is not named: %v", err)
			}
			if _, err := Open(t.Context(), Config{URL: server.URL(), AcceptLoss: c.accept / 2}); !errors.As(err, &refused) {
				t.Errorf("open with too small a window: %v", err)
			}
			reg := prometheus.NewRegistry()
			db := openTest(t, Config{URL: server.URL(), AcceptLoss: c.accept, Registerer: reg})
			defer closeDB(t, db)
			if l := db.Loss(); l.Window != c.accept || l.Reason == "" || l.Next == "" {
				t.Errorf("loss %+v", l)
			}
			if got := gauge(t, reg, "dash_store_loss_window_seconds"); got != c.accept.Seconds() {
				t.Errorf("metric says %v", got)
			}
			if err := db.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestSettingsChange weakens the server while Dash runs: writes are refused
// until it is durable again.
func TestSettingsChange(t *testing.T) {
	t.Parallel()
	server := testserver.NewRedis(t, testserver.RedisOptions{})
	db := openTest(t, Config{URL: server.URL(), WatchEvery: 10 * time.Millisecond})
	defer closeDB(t, db)
	if l := db.Loss(); l != (Loss{}) {
		t.Errorf("loss %+v", l)
	}
	set := func(name, value string) {
		if _, err := server.Do(t.Context(), "CONFIG", "SET", name, value); err != nil {
			t.Fatal(err)
		}
	}
	var refused *DurabilityError
	set("appendfsync", "everysec")
	eventually(t, "writes are refused", func() bool {
		err := db.Ping(t.Context())
		return errors.As(err, &refused) && errors.Is(err, persistence.ErrUnavailable)
	})
	set("appendfsync", "always")
	eventually(t, "writes go on", func() bool { return db.Ping(t.Context()) == nil })
}

// TestMemoryLimit fills the server: batches are refused whole, with the reason.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	server := testserver.NewRedis(t, testserver.RedisOptions{})
	db := openTest(t, Config{URL: server.URL()})
	defer closeDB(t, db)
	if _, err := server.Do(t.Context(), "CONFIG", "SET", "maxmemory", "1"); err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(t.Context()); !errors.Is(err, persistence.ErrUnavailable) || !strings.Contains(err.Error(), "maxmemory") {
		t.Fatalf("ping: %v", err)
	}
	if _, err := server.Do(t.Context(), "CONFIG", "SET", "maxmemory", "0"); err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	whole(t, db)
}

// TestLoading: a server that still loads its data is away for a moment, and is
// not refused for the append-only file that it says it does not keep.
func TestLoading(t *testing.T) {
	t.Parallel()
	text := "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n# Persistence\r\nloading:%d\r\nasync_loading:0\r\naof_enabled:%d\r\naof_last_write_status:ok\r\n# Replication\r\nrole:master\r\n"
	if _, err := parseInfo(fmt.Sprintf(text, 1, 0)); !errors.Is(err, errLoading) || !strings.Contains(hint(err), "is still loading") {
		t.Errorf("while it loads: %v", err)
	}
	d, err := parseInfo(fmt.Sprintf(text, 0, 1))
	if want := (durability{version: "7.0.15", role: "master", run: "abc", aofEnabled: true, aofWriteOK: true}); err != nil || d != want {
		t.Errorf("afterwards: %+v, %v", d, err)
	}
}
