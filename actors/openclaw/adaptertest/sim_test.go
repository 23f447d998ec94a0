//go:build !live

package adaptertest_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dash-fleet/dash/actors/openclaw/adaptertest"
	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSim holds the simulated gateway to what the real one does. Its protocol
// times run ten times faster.
func TestSim(t *testing.T) {
	t.Parallel()
	const lanes, version = 3, "2026.9.6"
	path := filepath.Join(t.TempDir(), "openclaw.json")
	g, err := openclawtest.New(openclawtest.Config{
		Token: "simulated-token-0123456789", MaxConcurrent: lanes, Version: version, TimeScale: 0.1,
		StateDir: t.TempDir(), ConfigPath: path,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	drained := make(chan error, 1)
	adaptertest.Run(t, adaptertest.Target{
		URL: g.URL(), Token: messages.Secret(g.Token()), Version: version, MaxConcurrent: lanes, ConfigPath: path,
		Unit: 700 * time.Millisecond, Rerun: 8 * time.Second,
		Kill:  func(context.Context) error { g.Crash(); return nil },
		Start: g.Start,
		Terminate: func(ctx context.Context) error {
			go func() { drained <- g.Drain(ctx) }()
			return nil
		},
		// A simulated process has no exit code of its own; a drain that ended
		// without an error stands for 0.
		Exited: func(ctx context.Context) (int, error) {
			select {
			case err := <-drained:
				return 0, err
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		},
	})
}
