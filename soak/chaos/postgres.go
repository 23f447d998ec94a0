package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dash-fleet/dash/persistence/testserver"
	"github.com/dash-fleet/dash/soak/harness"
)

// Promises about a database that goes and comes back.
const (
	servesAgain = 5 * time.Second // from the server's return to the next accepted task
	noticesHole = 8 * time.Second // from the first lost packet to the first refusal
)

// underLoad runs a fault under load, Rounds times, and has the judge look.
func (e *Env) underLoad(ctx context.Context, cfg harness.Config, rate float64, fault func(ctx context.Context, b *harness.Bench, round int) error) (err error) {
	if cfg.RunTime == 0 {
		cfg.RunTime = 300 * time.Millisecond
	}
	b, err := e.bench(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	load := b.StartLoad(harness.LoadConfig{Name: "p", Rate: rate, SessionShare: 0.3, Sessions: 12, Seed: e.Seed})
	rng := e.rng()
	for i := range e.Rounds {
		if err := harness.Pause(ctx, between(rng, 200*time.Millisecond, 1500*time.Millisecond)); err != nil {
			return err
		}
		if err := fault(ctx, b, i); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
	}
	if err := harness.Pause(ctx, time.Second); err != nil {
		return err
	}
	load.Stop(patience)
	if !b.Dash.Alive() {
		return errors.New("the node did not survive")
	}
	e.Logf("answers by status: %v", b.History.Answers())
	return e.conclude(ctx, b)
}

// accepts waits until more submits are accepted than before and returns how long that took.
func accepts(ctx context.Context, b *harness.Bench, limit time.Duration) (time.Duration, error) {
	at := time.Now()
	if err := awaitStatus(ctx, b, http.StatusAccepted, b.History.Answers()[http.StatusAccepted]+5); err != nil {
		return 0, err
	}
	took := time.Since(at)
	if took > limit {
		return took, fmt.Errorf("tasks were accepted again after %s, wanted %s", took.Round(time.Millisecond), limit)
	}
	return took, nil
}

// postgresRestart stops the database in each of its three ways.
func postgresRestart(ctx context.Context, e *Env) error {
	rng := e.rng()
	return e.underLoad(ctx, harness.Config{}, 60, func(ctx context.Context, b *harness.Bench, round int) error {
		server, refused := b.Servers.Postgres, b.History.Answers()[http.StatusServiceUnavailable]
		over := b.History.Fault("postgres-restart", "")
		defer over()
		var err error
		how := []string{"fast", "immediate", "kill -9"}[round%3]
		switch how {
		case "fast":
			err = server.Stop(testserver.Fast)
		case "immediate":
			err = server.Stop(testserver.Immediate)
		default:
			err = server.Kill()
		}
		if err != nil {
			return err
		}
		if err := awaitStatus(ctx, b, http.StatusServiceUnavailable, refused+1); err != nil {
			return err
		}
		if err := harness.Pause(ctx, between(rng, 0, 3*time.Second)); err != nil {
			return err
		}
		if err := server.Start(ctx); err != nil {
			return err
		}
		took, err := accepts(ctx, b, servesAgain)
		e.Logf("round %d: %s, accepted again %s after the server's return", round+1, how, took.Round(time.Millisecond))
		return err
	})
}

// postgresCut resets the connection after a batch of the committer was sent
// whole, before or after the server has carried it out.
func postgresCut(ctx context.Context, e *Env) error {
	return e.cutBatches(ctx, func(b *harness.Bench) *testserver.Proxy { return b.Servers.PostgresProxy })
}

func (e *Env) cutBatches(ctx context.Context, proxy func(*harness.Bench) *testserver.Proxy) error {
	return e.underLoad(ctx, harness.Config{}, 100, func(ctx context.Context, b *harness.Bench, round int) error {
		moment := testserver.AfterForward
		if round%2 == 1 {
			moment = testserver.AfterAnswer
		}
		// Only a batch with a new task carries the text of one to the server.
		cut := proxy(b).CutOn(func(chunk []byte) bool { return bytes.Contains(chunk, []byte("task p-")) }, moment)
		select {
		case <-cut:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Second):
			return errors.New("no batch was cut")
		}
		_, err := accepts(ctx, b, servesAgain)
		return err
	})
}

// postgresHole drops everything between Dash and the database without a reset.
func postgresHole(ctx context.Context, e *Env) error {
	return e.underLoad(ctx, harness.Config{}, 60, func(ctx context.Context, b *harness.Bench, round int) error {
		refused, at := b.History.Answers()[http.StatusServiceUnavailable], time.Now()
		over := b.History.Fault("postgres-hole", "")
		defer over()
		b.Servers.PostgresProxy.BlackHole(true)
		defer b.Servers.PostgresProxy.BlackHole(false)
		if err := awaitStatus(ctx, b, http.StatusServiceUnavailable, refused+1); err != nil {
			return err
		}
		noticed := time.Since(at)
		if noticed > noticesHole {
			return fmt.Errorf("the hole was noticed after %s, wanted %s", noticed.Round(time.Millisecond), noticesHole)
		}
		if err := harness.Pause(ctx, time.Second); err != nil {
			return err
		}
		b.Servers.PostgresProxy.BlackHole(false)
		took, err := accepts(ctx, b, servesAgain)
		e.Logf("round %d: noticed after %s, accepted again %s after its end", round+1, noticed.Round(time.Millisecond), took.Round(time.Millisecond))
		return err
	})
}

// postgresFailover kills a primary whose commits wait for a replica, and
// promotes that.
func postgresFailover(ctx context.Context, e *Env) error {
	return e.underLoad(ctx, harness.Config{Replica: true}, 60, func(ctx context.Context, b *harness.Bench, round int) error {
		defer b.History.Fault("postgres-failover", "")()
		if err := b.Servers.Postgres.Kill(); err != nil {
			return err
		}
		b.Servers.PostgresProxy.Cut()
		if err := b.Servers.Replica.Promote(ctx); err != nil {
			return err
		}
		took, err := accepts(ctx, b, servesAgain)
		e.Logf("accepted again %s after the promotion", took.Round(time.Millisecond))
		return err
	})
}
