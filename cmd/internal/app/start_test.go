package app

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/cmd/internal/config"
)

// TestTakenPortChangesNothing: a node that cannot serve makes no store and no
// key that nobody will ever see.
func TestTakenPortChangesNothing(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // the test is over
	dir := filepath.Join(t.TempDir(), "data")
	for name, change := range map[string]func(*config.Config){
		"port taken":      func(c *config.Config) { c.Listen = l.Addr().String() },
		"bad certificate": func(c *config.Config) { c.TLSCert, c.TLSKey = "/nowhere/cert.pem", "/nowhere/key.pem" },
	} {
		cfg := config.Default()
		cfg.Listen, cfg.Data, cfg.Node = "127.0.0.1:0", dir, "n"
		change(&cfg)
		a, err := Start(t.Context(), cfg, Deps{Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), BcryptCost: 4})
		if err == nil {
			t.Errorf("%s: the node started", name)
			if err := a.Stop(); err != nil {
				t.Error(err)
			}
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: the data folder was touched: %v", name, err)
		}
	}
}
