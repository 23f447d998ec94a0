// Package adaptertest is the adapter suite: what Dash relies on in a gateway,
// as assertions. It runs against the simulated gateway in `make test` and
// against a real OpenClaw in `make live`, with the same assertions, so that
// neither the simulator nor a new OpenClaw release can drift unnoticed.
package adaptertest

import (
	"context"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Target is a running gateway that the suite may kill. The fake model behind
// it obeys the marks of package fakemodel and answers at once without one.
type Target struct {
	URL     string
	Token   messages.Secret
	Version string // what hello must report
	// MaxConcurrent is the limit of lane main; small, so that it is reached
	// with few runs.
	MaxConcurrent int
	// Unit is a model call long enough to act in the middle of it.
	Unit time.Duration
	// ConfigPath is the configuration file that the gateway watches.
	ConfigPath string
	// Rerun is how long after its start a gateway may take to begin the re-run
	// of an interrupted turn, doubled for slow machines.
	Rerun time.Duration

	// Kill ends the process as SIGKILL does.
	Kill func(ctx context.Context) error
	// Start brings it back on the same state and returns when it is ready.
	Start func(ctx context.Context) error
	// Terminate asks it to drain and stop, as SIGTERM does; it does not wait.
	Terminate func(ctx context.Context) error
	// Exited waits for the end after Terminate and returns the exit code.
	Exited func(ctx context.Context) (int, error)
}

// Run runs the whole suite. The gateway is up at the end.
func Run(t *testing.T, target Target) {
	for _, c := range []struct {
		name string
		run  func(*bench)
	}{
		{"connect/hello", testHello},
		{"connect/rules", testConnectRules},
		{"connect/wrong_token", testWrongToken},
		{"call/errors", testCallErrors},
		{"call/load", testLoad},
		{"turn/two_answers", testTwoAnswers},
		{"turn/history", testHistory},
		{"turn/events", testEvents},
		{"turn/provider_400", testProvider400},
		{"turn/time_limit", testTimeLimit},
		{"ending/reasons", testEndings},
		{"ending/usage", testUsage},
		{"ending/trouble", testTrouble},
		{"ending/no_time_limit", testNoTimeLimit},
		{"ending/provider_off", testProviderOff},
		{"command/is_data", testCommands},
		{"key/in_flight", testInFlight},
		{"key/finished", testFinishedKey},
		{"key/failed", testFailedKey},
		{"wait/rows", testWaitRows},
		{"session/list_and_describe", testListAndDescribe},
		{"session/queue", testQueue},
		{"session/lane_limit", testLaneLimit},
		{"session/delete", testDelete},
		{"session/sub_agents", testSubAgents},
		{"session/stop_sub_agents", testStopSubAgents},
		{"session/teardown", testTeardown},
		{"abort/running", testAbortRunning},
		{"abort/unknown_run", testAbortUnknown},
		{"abort/clear_queued", testClearQueued},
		{"suspend/refuses_and_resumes", testSuspend},
		{"suspend/run_in_progress", testSuspendWithRun},
		// Before the crashes: 2026.8.2 keeps a run that a crash has cut off as under way,
		// and puts a restart of its own off for minutes.
		{"config/hot", testConfigHot},
		{"config/refused", testConfigRefused},
		{"config/restart", testConfigRestart},
		{"crash/own_rerun", testCrashRerun},
		{"crash/fence_and_resend", testFenceAndResend},
		{"crash/finished_key", testFinishedKeyAfterRestart},
		{"stop/drain", testDrain},
	} {
		ok := t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			c.run(&bench{T: t, Target: target, ctx: ctx, name: c.name})
		})
		if !ok && t.Context().Err() != nil {
			return
		}
	}
}
