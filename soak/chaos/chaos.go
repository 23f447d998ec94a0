// Package chaos breaks a running Dash from outside and has a judge look at
// what became of its promises: processes are killed, gateways crash, disks fill
// up. Each Scenario starts its own processes and ends them.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dash-fleet/dash/soak/harness"
)

// Env is what a scenario works with.
type Env struct {
	Binary string // of dash
	Dir    string // of this run, kept when it fails
	Rounds int    // how often a repeated fault is injected in this run
	Seed   uint64
	Engine string // that stores Dash's data
	Logf   func(format string, args ...any)
}

func (e *Env) rng() *rand.Rand { return rand.New(rand.NewPCG(e.Seed, 7)) }

func (e *Env) bench(ctx context.Context, cfg harness.Config) (*harness.Bench, error) {
	cfg.Binary, cfg.Dir, cfg.Engine = e.Binary, e.Dir, e.Engine
	return harness.NewBench(ctx, cfg)
}

// Scenario is one way to break things.
type Scenario struct {
	Name string
	// Doc says what is promised.
	Doc string
	// PerRun is the most rounds of one run; 0: the fault is not repeated, a
	// run counts as one round.
	PerRun int
	Root   bool // needs root
	// Engines on which it runs; none: SQLite. On another engine the name is
	// "<name>/<engine>", see Scenarios.
	Engines []string
	// Engine on which this one runs.
	Engine string
	Run    func(context.Context, *Env) error
}

// Scenarios lists all of them, each once for every engine it runs on.
func Scenarios() []Scenario {
	var all []Scenario
	for _, s := range scenarios() {
		engines := s.Engines
		if len(engines) == 0 {
			engines = []string{harness.SQLite}
		}
		name := s.Name
		for _, e := range engines {
			if s.Engine = e; e != harness.SQLite && !strings.HasPrefix(name, e) {
				s.Name = name + "/" + e
			}
			all = append(all, s)
		}
	}
	return all
}

func scenarios() []Scenario {
	every := harness.Engines()
	return []Scenario{
		{Name: "kill-dash", PerRun: 10, Engines: every, Run: killDash,
			Doc: "kill -9 of dash serve under load, same data folder: nothing lost, recorded twice or executed twice"},
		{Name: "kill-gateways", PerRun: 10, Engines: every, Run: killGateways,
			Doc: "kill -9 of gateways under load, singly and all at once: nothing lost, nothing recorded twice"},
		{Name: "order-one-slot", Run: orderOneSlot,
			Doc: "400 tasks of random classes, submitted while the only slot is busy, run in strict classes, FIFO inside each"},
		{Name: "order-five-gateways", Run: orderFiveGateways,
			Doc: "five gateways, random run times, tasks arriving all the time: no inversion"},
		{Name: "one-key", Engines: every, Run: oneKey,
			Doc: "1,000 concurrent submits with one Idempotency-Key make one task"},
		{Name: "queue-full", Run: queueFull,
			Doc: "a full queue answers 429 with Retry-After, and clients that obey it lose nothing"},
		{Name: "take-over", PerRun: 10, Engines: []string{harness.Postgres, harness.Redis}, Run: takeOver,
			Doc: "kill -9 of one of two nodes, whose host keeps the gateways: nothing is started a second time elsewhere, tasks follow on_unknown while their home is away, and it takes its gateways back"},
		{Name: "cancel", Run: cancelRunning,
			Doc: "a cancel of a running task reaches the gateway within a second"},
		{Name: "cancel-dying", PerRun: 5, Engines: every, Run: cancelDying,
			Doc: "a cancel while the gateway dies ends in a state that is true"},
		{Name: "span-restart", Engines: every, Run: spanRestart,
			Doc: "20-second runs that span a restart of Dash finish with attempt 1, and a managed gateway keeps its pid"},
		{Name: "store-away-idle", PerRun: 10, Root: true, Run: storeAwayIdle, Doc: awayPromise},
		{Name: "store-away-idle", PerRun: 10, Engines: []string{harness.Postgres, harness.Redis}, Run: storeAwayIdle, Doc: awayPromise},
		{Name: "disk-full", PerRun: 10, Root: true, Run: diskFull,
			Doc: "near the end of the disk submits answer 503 with the reason, what was accepted ends, and with room tasks are accepted without a restart; a disk filled to the last byte loses nothing"},
		{Name: "redis-full", PerRun: 10, Engines: []string{harness.Redis}, Run: redisFull,
			Doc: "near maxmemory submits answer 503 with the reason, what was accepted ends, and with room tasks are accepted without a restart"},
		{Name: "sqlite-fsync-fails", PerRun: 10, Root: true, Run: sqliteFsyncFails,
			Doc: "every fsync fails under load, with and without a kill -9 in that state: submits answer 503, nothing is lost, serving within 5 s of the disk's return"},
		{Name: "sqlite-fsync-slow", PerRun: 2, Root: true, Run: sqliteFsyncSlow,
			Doc: "an fsync that takes 200 ms makes answers slower: none is refused, p99 stays below 2 s, health stays ok"},
		{Name: "sqlite-second-process", PerRun: 10, Run: sqliteSecond,
			Doc: "a second dash serve on the same folder exits with 4 and names the holder, who is unharmed"},
		{Name: "sqlite-corrupt", PerRun: 8, Run: sqliteCorrupt,
			Doc: "a torn end of the log loses nothing; a log cut short and damaged pages are refused with what, why and next; with the bytes back everything is there"},
		{Name: "postgres-restart", PerRun: 6, Engines: []string{harness.Postgres}, Run: postgresRestart,
			Doc: "the database stops (fast, immediate, kill -9) under load: submits answer 503, nothing is lost, serving again within 5 s of its return"},
		{Name: "postgres-cut", PerRun: 50, Engines: []string{harness.Postgres}, Run: postgresCut,
			Doc: "the connection is cut after a batch was sent and before its answer: nothing lost, nothing recorded twice"},
		{Name: "postgres-hole", PerRun: 4, Engines: []string{harness.Postgres}, Run: postgresHole,
			Doc: "the network swallows everything in the middle of a query: noticed within 8 s, nothing lost"},
		{Name: "postgres-failover", PerRun: 1, Engines: []string{harness.Postgres}, Run: postgresFailover,
			Doc: "the primary dies under load and its synchronous replica is promoted: nothing lost, serving within 5 s"},
		{Name: "redis-restart", PerRun: 6, Engines: []string{harness.Redis}, Run: redisRestart,
			Doc: "the queue's server restarts under load: submits answer 503, nothing is lost, serving again within 5 s"},
		{Name: "redis-pause", PerRun: 3, Engines: []string{harness.Redis}, Run: redisPause,
			Doc: "the queue's server stands still for 10 s: submits answer 503, nothing is lost"},
		{Name: "redis-cut", PerRun: 50, Engines: []string{harness.Redis}, Run: redisCut,
			Doc: "the connection is cut after a batch was sent and before its answer: nothing lost, nothing recorded twice"},
		{Name: "redis-flush", PerRun: 1, Engines: []string{harness.Redis}, Run: redisFlush,
			Doc: "FLUSHALL under load: the loss is said, and every accepted task still ends"},
		{Name: "redis-tail", PerRun: 1, Engines: []string{harness.Redis}, Run: redisTail,
			Doc: "the append-only file loses its end: the loss is said, and every accepted task still ends"},
		{Name: "redis-middle", PerRun: 1, Engines: []string{harness.Redis}, Run: redisMiddle,
			Doc: "the append-only file is damaged in the middle: the server refuses to start, and after its repair the loss is said and every accepted task still ends"},
		{Name: "slow-gateway", Run: slowGateway,
			Doc: "provider errors halve a gateway's window, and so do three slow readings of its event loop in a row; those of its neighbours stay"},
		{Name: "slow-log", PerRun: 5, Run: slowLog,
			Doc: "stdout and stderr are pipes that nobody reads: work goes on, and SIGTERM ends the node within its bound"},
		{Name: "failing", PerRun: 5, Run: failing,
			Doc: "a session that keeps failing is restarted with growing delays, then parked; a crash-looping gateway is quarantined; both say why and what to do"},
		{Name: "poison", PerRun: 10, Engines: every, Run: poison,
			Doc: "a task that kills its gateway in every run ends as dead letter gateway_crashed; the seven beside it on the same gateway succeed, and the gateway is ready"},
		{Name: "remove", Run: remove,
			Doc: "a gateway removed by force gives its tasks back at once, as their on_unknown says, and their runs are stopped"},
		{Name: "drain", Run: drain,
			Doc: "a drain finishes the run and takes no other"},
	}
}

const awayPromise = "the store goes while runs end, one submit is refused, and nobody asks again: every result is durable and the node ready within 10 s of the store's return"

// patience bounds how long open tasks may take to end after the last fault.
const patience = 90 * time.Second

// conclude waits for the end of all tasks and asks the judge.
func (e *Env) conclude(ctx context.Context, b *harness.Bench) error {
	late := b.AwaitEnd(ctx, patience)
	h, v, err := b.Judge(ctx)
	if err != nil {
		return errors.Join(late, fmt.Errorf("read back for the judge: %w", err))
	}
	n := v.Counts
	e.Logf("judged %d submits (%d accepted, %d refused, %d unknown), %d events, %d claims, %d starts, %d own re-runs, %d executed again, peak %d in flight, frames %d checked and %d excused, order checked %d and %d behind in the log, states %v, cuts of the stream %d",
		n.Submits, n.Accepted, n.Refused, n.Unknown, n.Events, n.Claims, n.Started, n.Reruns, n.Again, n.PeakInFlight, n.FramesChecked, n.FramesExcused, n.OrderChecked, n.BehindInLog, n.States, b.Watcher.Cuts())
	if n.Accepted == 0 {
		return errors.Join(late, errors.New("nothing was accepted, so nothing was tested"))
	}
	if err := v.Err(); err != nil {
		return errors.Join(late, err, harness.SaveHistory(filepath.Join(e.Dir, "history.json"), h))
	}
	return late
}

// awaitStatus waits until n submits were answered with a status. Submits of a
// few kB make sure that room inside the database file does not suffice.
func awaitStatus(ctx context.Context, b *harness.Bench, status, n int) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if b.History.Answers()[status] >= n {
			return nil
		}
		if err := harness.Pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("no %d answers with status %d within 30s: %v", n, status, b.History.Answers())
}

// between draws a duration.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

// Remove deletes what a successful run left.
func (e *Env) Remove() error { return os.RemoveAll(e.Dir) }
