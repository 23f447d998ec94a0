package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
)

// Gateways of the scenario: two daemons that node a keeps, one that node b
// keeps. The simulated gateway of the bench, on a loopback URL, is a's as well.
var keptByA = []string{"a-0", "a-1"}

const keptByB = "b-0"

// takeOver kills node a while the gateways that live on its host run tasks.
// Node b takes over and must not start what runs there a second time. In turn
// a comes back before its tasks count as away, or after; alone, or with
// daemons that were killed too.
func takeOver(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{Gateways: 1, Slots: 2, RunTime: 50 * time.Millisecond, KeepState: true, TimeScale: 0.1, Standby: true,
		Args: []string{"--node", harness.NodeA, "--openclaw-auto-start", "--openclaw-command", e.Binary + " sim --managed"}})
	if err != nil {
		return err
	}
	s := &takeOvers{Env: e, b: b}
	// In this order: a node that lives would start them again.
	defer func() { err = errors.Join(err, b.Close(), s.endDaemons()) }()
	if err := s.gateways(ctx); err != nil {
		return err
	}
	for i := range e.Rounds {
		if err := s.round(ctx, i); err != nil {
			return errors.Join(fmt.Errorf("round %d: %w", i+1, err), s.startedOnce())
		}
	}
	return errors.Join(s.startedOnce(), e.conclude(ctx, b))
}

type takeOvers struct {
	*Env
	b       *harness.Bench
	held    []string // tasks that must not be executed twice
	version int64    // of the pool
}

func (s *takeOvers) gateways(ctx context.Context) error {
	if err := s.b.AwaitNodes(ctx, 2); err != nil {
		return err
	}
	for _, id := range append(keptByA[:len(keptByA):len(keptByA)], keptByB) {
		node, slots := harness.NodeA, 2
		if id == keptByB {
			node = harness.NodeB
		}
		env := map[string]string{"DASH_SIM_LOG": s.b.Truth(), "DASH_SIM_NAME": id, "DASH_SIM_STARTUP": "100ms", "DASH_SIM_TIME_SCALE": "0.1"}
		_, err := s.b.Client.CreateGateway(ctx, api.CreateGateway{Id: id, Node: &node, MaxConcurrency: &slots, Managed: &api.CreateManaged{Env: &env}})
		if err != nil {
			return fmt.Errorf("add managed gateway: %w", err)
		}
	}
	return s.b.AwaitReady(ctx, 3)
}

// endDaemons ends the daemons of both nodes, which outlive Dash by design.
func (s *takeOvers) endDaemons() error {
	var errs []error
	for _, n := range []*harness.Dash{s.b.Dash, s.b.Standby} {
		for _, pid := range harness.Daemons(n.Data()) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, fmt.Errorf("end daemon %d: %w", pid, err))
			}
		}
	}
	return errors.Join(errs...)
}

// round is one take-over.
func (s *takeOvers) round(ctx context.Context, i int) error {
	inTime, daemonsDie := i%2 == 0, i/2%2 == 1
	away := 4
	if inTime {
		away = 120
	}
	version := api.WithCreateOnly()
	if s.version > 0 {
		version = api.WithVersion(s.version)
	}
	if err := s.setPool(ctx, api.PutPool{AwaySeconds: &away}, version); err != nil {
		return err
	}
	tasks, err := s.submit(ctx, i)
	if err != nil {
		return err
	}
	over := s.b.History.Fault("take-over", "")
	defer over()
	s.b.Dash.Kill()
	if daemonsDie {
		if err := s.killDaemons(); err != nil {
			return err
		}
	}
	at := time.Now()
	if err := s.b.Standby.AwaitReady(ctx); err != nil {
		return fmt.Errorf("node b: %w", err)
	}
	took := time.Since(at)
	if inTime {
		err = harness.Pause(ctx, between(s.rng(), 0, 2*time.Second))
	} else {
		err = s.settled(ctx, tasks)
	}
	if err != nil {
		return err
	}
	at = time.Now()
	if err := s.b.Dash.Start(ctx); err != nil { // which is ready when it works again
		return fmt.Errorf("node a: %w", err)
	}
	s.Logf("round %d: in time %t, daemons killed %t: node b worked after %s, node a again %s after its start",
		i+1, inTime, daemonsDie, took.Round(time.Millisecond), time.Since(at).Round(time.Millisecond))
	over()
	if err := s.ended(ctx, tasks, inTime && !daemonsDie); err != nil {
		return err
	}
	return s.b.AwaitReady(ctx, 3)
}

// setPool changes the default pool.
func (s *takeOvers) setPool(ctx context.Context, p api.PutPool, version api.Option) error {
	return change(func() error {
		pool, err := s.b.Client.PutPool(ctx, "default", p, version)
		if err != nil {
			return fmt.Errorf("set pool: %w", err)
		}
		s.version = pool.Version
		return nil
	})
}

// change makes a change. The client may be at the node that stands by, which has
// answered all that was read so far: then the other one is asked.
func change(do func() error) error {
	err := do()
	var refused *api.Error
	if errors.As(err, &refused) && refused.Status == http.StatusServiceUnavailable {
		return do()
	}
	return err
}

// submit fills the gateways of node a and waits until all of it runs. Every
// second task must not be executed again.
func (s *takeOvers) submit(ctx context.Context, i int) ([]*api.Task, error) {
	rng := s.rng()
	var tasks []*api.Task
	for n := range 6 {
		key := fmt.Sprintf("t-%d-%d", i, n)
		o := harness.Order{Key: key, Class: harness.Classes[rng.IntN(4)], Hold: n%2 == 1, Timeout: 5 * time.Minute,
			Message: fmt.Sprintf("[[delay=%d]]%s", between(rng, 5*time.Second, 9*time.Second).Milliseconds(), key)}
		if n > 3 {
			o.Session = key
		}
		t, err := s.b.Submit(ctx, o, nil)
		if err != nil {
			return nil, err
		}
		if o.Hold {
			s.held = append(s.held, t.Id)
		}
		tasks = append(tasks, t)
	}
	for _, t := range tasks {
		if _, err := s.b.Watcher.AwaitState(ctx, patience, t.Id, api.TaskStateRunning); err != nil {
			return nil, err
		}
	}
	return tasks, nil
}

func (s *takeOvers) killDaemons() error {
	for _, pid := range harness.Daemons(s.b.Dash.Data()) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill daemon %d: %w", pid, err)
		}
	}
	return nil
}

// settled waits until node b has settled the tasks of a's gateways by the
// pool's away policy.
func (s *takeOvers) settled(ctx context.Context, tasks []*api.Task) error {
	for n, t := range tasks {
		want := api.TaskStateQueued
		if n%2 == 1 {
			want = api.TaskStateHeld
		}
		if _, err := s.b.Watcher.AwaitState(ctx, patience, t.Id, want); err != nil {
			return fmt.Errorf("with the home gone: %w", err)
		}
	}
	return nil
}

// ended waits for the end of all tasks. One that is held without a proof is
// decided by the operator; there is none where its daemon lived all the time.
func (s *takeOvers) ended(ctx context.Context, tasks []*api.Task, adopted bool) error {
	for _, t := range tasks {
		got, err := s.b.Client.GetTask(ctx, t.Id, 20*time.Second)
		if err != nil {
			return err
		}
		if got.State == api.TaskStateHeld && !adopted {
			err := change(func() error {
				_, err := s.b.Client.ReleaseTask(ctx, t.Id, api.ReleaseTask{Action: api.ReleaseTaskActionFail})
				return err
			})
			if err != nil {
				return fmt.Errorf("release: %w", err)
			}
			continue
		}
		if !harness.Terminal(string(got.State)) {
			if got, err = s.b.Client.GetTask(ctx, t.Id, time.Minute); err != nil {
				return err
			}
		}
		if adopted && (got.State != api.TaskStateSucceeded || got.Claim != 1) {
			return fmt.Errorf("task %s is %s with claim %d, want succeeded with 1: its daemon lived all the time", t.Id, got.State, got.Claim)
		}
	}
	return nil
}

// startedOnce looks into the gateways' own logs: no run id started twice,
// unless a gateway gave its interrupted run up, and no task that must not be
// executed again has a second one.
func (s *takeOvers) startedOnce() error {
	lines, err := s.b.Sim.Lines()
	if err != nil {
		return err
	}
	starts, gaveUp := map[string]int{}, map[string]int{}
	session := map[string]string{}
	for _, l := range lines {
		switch l.Event {
		case openclawtest.LogStarted:
			starts[l.RunID]++
			session[l.RunID] = l.Session
		case openclawtest.LogGaveUp:
			gaveUp[l.Session]++
		}
	}
	var errs []error
	for id, n := range starts {
		if n > 1+gaveUp[session[id]] {
			errs = append(errs, fmt.Errorf("run %s has %d `started` lines", id, n))
		}
	}
	for _, t := range s.held {
		n := 0
		for id := range starts {
			if strings.HasPrefix(id, t+".") {
				n++
			}
		}
		if n > 1 {
			errs = append(errs, fmt.Errorf("task %s, to be held, was executed under %d claims", t, n))
		}
	}
	return errors.Join(errs...)
}
