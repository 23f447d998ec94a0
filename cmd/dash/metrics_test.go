package main

import (
	"flag"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dash-fleet/dash/cmd/internal/app"
	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/telemetry"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/testserver"
)

var update = flag.Bool("update", false, "write golden files anew")

const metricsFile = "testdata/metrics.txt"

var descForm = regexp.MustCompile(`fqName: "(dash_[^"]*)", help: "((?:[^"\\]|\\.)*)".*variableLabels: \{([^}]*)\}`)

// TestMetricsReference starts a node on each engine and compares what they
// register with the reference, which dashboards, alerts and people read. A
// metric without help, or with a name that Prometheus advises against, fails as
// well.
func TestMetricsReference(t *testing.T) {
	t.Parallel()
	var all []string
	for engine, place := range map[string]func(*config.Config){
		config.EngineSQLite: func(*config.Config) {},
		config.EnginePostgres: func(c *config.Config) {
			c.PostgresURL = messages.Secret(testserver.Postgres(t).Database(t))
		},
		config.EngineRedis: func(c *config.Config) {
			c.PostgresURL = messages.Secret(testserver.Postgres(t).Database(t))
			c.RedisURL = messages.Secret(testserver.Redis(t).Database(t))
		},
	} {
		cfg := config.Default()
		cfg.Data, cfg.Node, cfg.Listen = t.TempDir(), "node-1", "127.0.0.1:0"
		cfg.Store, cfg.BackupEvery = engine, time.Hour
		place(&cfg)
		all = append(all, metricsOf(t, cfg)...)
	}
	slices.Sort(all)
	got := strings.Join(slices.Compact(all), "")
	if *update {
		if err := os.WriteFile(metricsFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(metricsFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the metrics differ from %s; if that is meant, run this test with -update (-want +got):\n%s", metricsFile, diff)
	}
}

// metricsOf describes what a node with this configuration registers.
func metricsOf(t *testing.T, cfg config.Config) []string {
	t.Helper()
	log, err := telemetry.NewLog(io.Discard, telemetry.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close(telemetry.LogPatience)
	registry := newRegistry(log)
	node, err := app.Start(t.Context(), cfg, app.Deps{Logger: slog.New(slog.DiscardHandler), Registry: registry, Version: "test", BcryptCost: 4})
	if err != nil {
		t.Fatalf("%s: %v", cfg.Store, err)
	}
	defer func() {
		if err := node.Stop(); err != nil {
			t.Errorf("%s: %v", cfg.Store, err)
		}
	}()
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "dash_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	return described(t, registry)
}

// described lists name{labels} and help of every metric of Dash, also of those
// without a series yet.
func described(t *testing.T, r *prometheus.Registry) []string {
	t.Helper()
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		r.Describe(descs)
	}()
	var lines []string
	for d := range descs {
		m := descForm.FindStringSubmatch(d.String())
		if m == nil {
			continue // of the Go runtime or the process
		}
		labels := ""
		if m[3] != "" {
			labels = "{" + m[3] + "}"
		}
		if m[2] == "" {
			t.Errorf("%s has no help", m[1])
		}
		lines = append(lines, m[1]+labels+"\n  "+m[2]+"\n")
	}
	return lines
}
