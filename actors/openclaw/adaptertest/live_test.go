//go:build live

package adaptertest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/adaptertest"
	"github.com/dash-fleet/dash/actors/openclaw/fakemodel"
	"github.com/dash-fleet/dash/actors/openclaw/livetest"
)

var installed livetest.Installation

// TestMain installs the gateway first: missing infrastructure is no failure of
// the code and has an exit code of its own.
func TestMain(m *testing.M) {
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	cache, err := livetest.CacheDir()
	if err == nil {
		installed, err = livetest.Install(ctx, cache, livetest.Version())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, livetest.ErrMissing) {
			os.Exit(livetest.ExitMissing)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const liveLanes = 3

func TestLive(t *testing.T) {
	model, err := fakemodel.Start(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Close)
	g, err := livetest.New(installed, livetest.Options{Dir: t.TempDir(), ModelURL: model.URL(), MaxConcurrent: liveLanes})
	if err != nil {
		t.Fatal(err)
	}
	// Cleanup runs after t.Context is done; the state folder goes after it.
	t.Cleanup(func() {
		if err := g.Kill(); err != nil {
			t.Errorf("kill: %v", err)
		}
		if t.Failed() {
			t.Logf("gateway's last words: %s", g.Log())
		}
	})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("OpenClaw %s at %s", g.Version(), g.URL())
	adaptertest.Run(t, adaptertest.Target{
		URL: g.URL(), Token: g.Token(), Version: g.Version(), MaxConcurrent: liveLanes, ConfigPath: g.ConfigPath(),
		Unit: 6 * time.Second, Rerun: 60 * time.Second,
		Kill:      func(context.Context) error { return g.Kill() },
		Start:     g.Start,
		Terminate: func(context.Context) error { return g.Terminate() },
		Exited:    g.Wait,
	})
}
