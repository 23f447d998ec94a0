package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
)

// sessionRestarts is how often a session is restarted before it is parked.
const sessionRestarts = 5

// failing has sessions whose gateway cannot read their transcripts after a
// crash, one per round, and beside them a managed gateway that crashes again
// and again.
func failing(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{Gateways: 1, RunTime: 50 * time.Millisecond, KeepState: true, TimeScale: 0.1,
		Args: []string{"--openclaw-auto-start", "--openclaw-command", e.Binary + " sim --managed"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	g, both := errgroup.WithContext(ctx)
	g.Go(func() error { return crashLoop(both, e, b) })
	g.Go(func() error { return parkSessions(both, e, b) })
	if err := g.Wait(); err != nil {
		return err
	}
	return e.conclude(ctx, b)
}

// crashLoop ends a managed gateway six seconds after each of its starts: late
// enough that every start counts as a good one and is followed at once by the next.
func crashLoop(ctx context.Context, e *Env, b *harness.Bench) (err error) {
	const id = "loop"
	pool := id
	begun := time.Now()
	env := map[string]string{"DASH_SIM_STARTUP": "100ms", "DASH_SIM_CRASH_AFTER": "6s"}
	if err := makePool(ctx, b, pool); err != nil {
		return err
	}
	if _, err := b.Client.CreateGateway(ctx, api.CreateGateway{Id: id, Pool: &pool, Managed: &api.CreateManaged{Env: &env}}); err != nil {
		return fmt.Errorf("add managed gateway: %w", err)
	}
	defer func() { err = errors.Join(err, b.Client.DeleteGateway(context.WithoutCancel(ctx), id, true)) }()
	quarantined := func(g *api.Gateway) bool { return g.State == api.GatewayStateQuarantined }
	if err := b.AwaitGateway(ctx, 4*time.Minute, id, quarantined); err != nil {
		return err
	}
	e.Logf("the crash-looping gateway was quarantined after %s", time.Since(begun).Round(time.Second))
	return e.says(ctx, b, []string{"gateway", "show", id},
		"quarantined", "the gateway process ended 10 times within", "dash gateway restart "+id)
}

func parkSessions(ctx context.Context, e *Env, b *harness.Bench) error {
	name := func(i int) string { return fmt.Sprintf("failing-%d", i) }
	stuck := make([]*api.Task, e.Rounds)
	for i := range stuck {
		t, err := b.Submit(ctx, harness.Order{Key: name(i), Class: "high", Session: name(i), Message: "[[delay=60000]]" + name(i)}, nil)
		if err != nil {
			return err
		}
		stuck[i] = t
		if _, err := b.Watcher.AwaitState(ctx, patience, t.Id, api.TaskStateRunning); err != nil {
			return err
		}
	}
	before, err := b.Client.GetGateway(ctx, harness.Name(0))
	if err != nil {
		return err
	}
	over := b.History.Fault("gateway-kill", harness.Name(0))
	if err := b.Sim.Fault(ctx, 0, map[string]any{"broken_history": true, "crash": true}); err != nil {
		return err
	}
	over()
	// What is sent while Dash has not noticed the crash has to be looked up in
	// the broken history, and fails like the sessions that are to fail.
	again := func(g *api.Gateway) bool { return g.BootId != nil && *g.BootId != *before.BootId }
	if err := b.AwaitGateway(ctx, patience, before.Id, again); err != nil {
		return err
	}
	for i, t := range stuck {
		if err := e.parked(ctx, b, t, name(i)); err != nil {
			return err
		}
	}
	if err := e.restartDelays(); err != nil {
		return err
	}
	// Nobody else was hurt, and an operator can let the session go on.
	if err := b.Sim.Fault(ctx, 0, map[string]any{"broken_history": false}); err != nil {
		return err
	}
	for i := range stuck {
		if err := e.says(ctx, b, []string{"session", "resume", name(i)}, name(i)); err != nil {
			return err
		}
		t, err := b.Submit(ctx, harness.Order{Key: name(i) + "-next", Class: "high", Session: name(i), Message: "go on"}, nil)
		if err != nil {
			return err
		}
		if t, err = b.Client.GetTask(ctx, t.Id, time.Minute); err != nil || t.State != api.TaskStateSucceeded {
			return fmt.Errorf("the next turn of a resumed session is %v: %w", t, errors.Join(err, errors.New("want succeeded")))
		}
	}
	return nil
}

// parked waits for the end of a failing session's task and asks why.
func (e *Env) parked(ctx context.Context, b *harness.Bench, t *api.Task, session string) error {
	other, err := b.Submit(ctx, harness.Order{Key: session + "-other", Class: "low", Message: "somebody else's"}, nil)
	if err != nil {
		return err
	}
	if other, err = b.Client.GetTask(ctx, other.Id, time.Minute); err != nil || other.State != api.TaskStateSucceeded {
		return fmt.Errorf("a task of nobody's session beside a failing one is %v, %w", other, err)
	}
	if t, err = b.Client.GetTask(ctx, t.Id, 2*time.Minute); err != nil {
		return err
	}
	if t.State != api.TaskStateDeadLetter || t.Error == nil || t.Error.Code != "session_failed" {
		return fmt.Errorf("the task of the failing session is %s with %v, want dead_letter and session_failed", t.State, t.Error)
	}
	return e.says(ctx, b, []string{"session", "show", session},
		"parked", "its actor failed more than 5 times", "chat.history", "dash session resume "+session)
}

// restartDelays reads from the node's log how long each failing session waited
// for its restarts: every wait must be longer than the one before.
func (e *Env) restartDelays() error {
	f, err := os.Open(filepath.Join(e.Dir, "dash.log"))
	if err != nil {
		return fmt.Errorf("open the log of Dash: %w", err)
	}
	defer f.Close()
	waits := map[string][]time.Duration{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct {
			Msg, Kind, Actor string
			After            string // a duration with its unit
		}
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.Msg == "actor failed and will be restarted" && l.Kind == "session" {
			after, err := time.ParseDuration(l.After)
			if err != nil {
				return fmt.Errorf("the log of Dash tells of a restart after %q: %w", l.After, err)
			}
			waits[l.Actor] = append(waits[l.Actor], after)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the log of Dash: %w", err)
	}
	if len(waits) != e.Rounds {
		return fmt.Errorf("%d sessions were restarted, want %d: %v", len(waits), e.Rounds, waits)
	}
	for name, all := range waits {
		e.Logf("%s was restarted after %v", name, all)
		if len(all) != sessionRestarts {
			return fmt.Errorf("%s was restarted %d times, want %d", name, len(all), sessionRestarts)
		}
		for i := 1; i < len(all); i++ {
			if all[i] <= all[i-1] {
				return fmt.Errorf("the delays of %s do not grow: %v", name, all)
			}
		}
	}
	return nil
}

// says runs a verb of the command line and looks for words in its answer.
func (e *Env) says(ctx context.Context, b *harness.Bench, args []string, words ...string) error {
	key, err := b.Key(ctx)
	if err != nil {
		return err
	}
	var out, talk bytes.Buffer
	cmd := exec.CommandContext(ctx, e.Binary, args...)
	cmd.Env = append(os.Environ(), "DASH_URL="+b.Dash.Base(), "DASH_API_KEY="+key)
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("dash %s: %w: %s", strings.Join(args, " "), err, talk.String())
	}
	for _, w := range words {
		if !strings.Contains(out.String(), w) {
			return fmt.Errorf("dash %s does not say %q:\n%s", strings.Join(args, " "), w, out.String())
		}
	}
	e.Logf("dash %s:\n%s", strings.Join(args, " "), out.String())
	return nil
}
