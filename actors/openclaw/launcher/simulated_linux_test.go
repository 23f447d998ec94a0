package launcher

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// TestSimulatedGateway takes the project's simulated gateway, which keeps to
// the protocol more closely than the stand-in, through one whole life.
func TestSimulatedGateway(t *testing.T) {
	t.Parallel()
	l := setup(t, func(c *Config) { c.Command = command(argSim) })
	spec := Spec{ID: "sim", Managed: messages.Managed{
		Env:    map[string]string{"DASH_SIM_TIME_SCALE": "0.05"},
		Config: map[string]any{"agents": map[string]any{"defaults": map[string]any{"model": map[string]any{"primary": "fake/fake-1"}}}},
	}}
	ep := mustEnsure(t, l.Launcher, spec)
	l.Close()
	next := again(t, l.dir, func(c *Config) { c.Command = command(argSim) })
	if got := mustEnsure(t, next, spec); got.PID != ep.PID || !got.Adopted || got.Stale || got.Token != ep.Token {
		t.Fatalf("got %+v, want %+v adopted", got, ep)
	}
	exits := next.Exited("sim")
	res, err := http.Post("http"+strings.TrimPrefix(ep.URL, "ws")+"__sim", "application/json", strings.NewReader(`{"crash":true}`))
	if err == nil {
		res.Body.Close()
	}
	if e := awaitExit(t, exits); e.Requested || (e.known && e.clean()) {
		t.Errorf("got exit %+v of a crash", e)
	}
	after := mustEnsure(t, next, spec)
	if after.PID == ep.PID || after.URL != ep.URL || after.Adopted {
		t.Errorf("got %+v after the crash of %+v", after, ep)
	}
	if e, err := next.Stop(t.Context(), "sim"); err != nil || !e.clean() {
		t.Errorf("Stop: %+v %v, want a clean drain", e, err)
	}
	broken := spec
	broken.Managed.Config = map[string]any{"gateway": map[string]any{"prot": 1}}
	_, err = next.Ensure(t.Context(), broken)
	if se := startError(t, err); !se.Permanent || se.ExitCode != codeConfig {
		t.Errorf("with an unknown key got %+v", se)
	}
	if _, err := next.Stop(t.Context(), "sim"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Stop: %v, want ErrNotRunning", err)
	}
}
