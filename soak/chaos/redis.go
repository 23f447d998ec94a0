package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/persistence/testserver"
	"github.com/dash-fleet/dash/soak/harness"
)

// redisRestart stops the queue's server in order and with kill -9.
func redisRestart(ctx context.Context, e *Env) error {
	return e.underLoad(ctx, harness.Config{}, 60, func(ctx context.Context, b *harness.Bench, round int) error {
		server, refused := b.Servers.Redis, b.History.Answers()[http.StatusServiceUnavailable]
		defer b.History.Fault("redis-restart", "")()
		stop, how := server.Stop, "SIGTERM"
		if round%2 == 1 {
			stop, how = server.Kill, "kill -9"
		}
		if err := stop(); err != nil {
			return err
		}
		if err := awaitStatus(ctx, b, http.StatusServiceUnavailable, refused+1); err != nil {
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

// redisPause stops the server's process for ten seconds, which resets nothing.
func redisPause(ctx context.Context, e *Env) error {
	return e.underLoad(ctx, harness.Config{}, 60, func(ctx context.Context, b *harness.Bench, round int) error {
		refused := b.History.Answers()[http.StatusServiceUnavailable]
		defer b.History.Fault("redis-pause", "")()
		if err := b.Servers.Redis.Pause(); err != nil {
			return err
		}
		err := errors.Join(harness.Pause(ctx, 10*time.Second), b.Servers.Redis.Resume())
		if err != nil {
			return err
		}
		if b.History.Answers()[http.StatusServiceUnavailable] == refused {
			return errors.New("no submit was refused while the server stood still")
		}
		took, err := accepts(ctx, b, servesAgain)
		e.Logf("round %d: accepted again %s after the pause", round+1, took.Round(time.Millisecond))
		return err
	})
}

// redisCut resets the connection after a batch was sent whole.
func redisCut(ctx context.Context, e *Env) error {
	return e.cutBatches(ctx, func(b *harness.Bench) *testserver.Proxy { return b.Servers.RedisProxy })
}

// Losses: what the server had acknowledged is gone when it answers again.

func redisFlush(ctx context.Context, e *Env) error {
	return e.losing(ctx, func(ctx context.Context, b *harness.Bench) error {
		_, err := b.Servers.Redis.Do(ctx, "FLUSHALL")
		return err
	})
}

// redisTail kills the server and cuts the end off its append-only file, which
// the server by default takes for an unfinished write.
func redisTail(ctx context.Context, e *Env) error {
	return e.losing(ctx, func(ctx context.Context, b *harness.Bench) error {
		return e.damage(ctx, b, func(f *os.File, size int64) error { return f.Truncate(size - min(size/4, 20_000)) })
	})
}

// redisMiddle overwrites a piece in the middle of the append-only file. The
// server refuses to start; the operator repairs the file, which drops all that
// follows the damage.
func redisMiddle(ctx context.Context, e *Env) error {
	return e.losing(ctx, func(ctx context.Context, b *harness.Bench) error {
		var middle int64
		err := e.damage(ctx, b, func(f *os.File, size int64) error {
			var err error
			if middle, err = command(f, size/2); err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, 64), middle)
			return err
		})
		if err == nil {
			return errors.New("redis took a damaged file")
		}
		if err := awaitStatus(ctx, b, http.StatusServiceUnavailable, b.History.Answers()[http.StatusServiceUnavailable]+1); err != nil {
			return err
		}
		// What redis-check-aof --fix does.
		return e.damage(ctx, b, func(f *os.File, _ int64) error { return f.Truncate(middle) })
	})
}

// command finds where a command begins behind a place in the file. Damage
// inside a value is another matter: the server cannot see it.
func command(f *os.File, from int64) (int64, error) {
	rest, err := io.ReadAll(io.NewSectionReader(f, from, 1<<30))
	if err != nil {
		return 0, err
	}
	i := bytes.Index(rest, []byte("\r\n*"))
	if i < 0 {
		return 0, errors.New("no command begins in the second half of the file")
	}
	return from + int64(i) + 2, nil
}

func (e *Env) damage(ctx context.Context, b *harness.Bench, how func(f *os.File, size int64) error) error {
	if err := b.Servers.Redis.Kill(); err != nil { // harmless when it does not run
		return err
	}
	files, err := b.Servers.Redis.AOFFiles()
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("redis has no append-only file")
	}
	f, err := os.OpenFile(files[len(files)-1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := how(f, info.Size()); err != nil {
		return err
	}
	return b.Servers.Redis.Start(ctx)
}

// losing injects losses under load, one in a run. What was accepted must be there in the
// end, and the log must say that something was lost. The judge does not look:
// it reads the event log, of which a part is gone, and a task whose newest steps
// were lost may run again.
func (e *Env) losing(ctx context.Context, fault func(context.Context, *harness.Bench) error) (err error) {
	b, err := e.bench(ctx, harness.Config{RunTime: 300 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	load := b.StartLoad(harness.LoadConfig{Name: "r", Rate: 60, SessionShare: 0.3, Sessions: 12, Seed: e.Seed})
	rng := e.rng()
	if err := harness.Pause(ctx, between(rng, 2*time.Second, 4*time.Second)); err != nil {
		return err
	}
	before := b.History.Accepted()
	if err := fault(ctx, b); err != nil {
		return err
	}
	took, err := accepts(ctx, b, patience)
	if err != nil {
		return err
	}
	if err := harness.Pause(ctx, time.Second); err != nil {
		return err
	}
	load.Stop(patience)
	log, err := os.ReadFile(b.Dash.Log())
	if err != nil {
		return err
	}
	if !strings.Contains(string(log), "redis has lost data") {
		return errors.New("the loss was not said in the log")
	}
	e.Logf("accepted again after %s; %d tasks named as requeued, %d as held", took.Round(time.Millisecond),
		strings.Count(string(log), "task requeued after a loss of data"), strings.Count(string(log), "task held after a loss of data"))
	return e.accounted(ctx, b, before)
}

// accounted waits until every accepted task has ended.
func (e *Env) accounted(ctx context.Context, b *harness.Bench, before int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ids := b.History.AcceptedTasks()
	lost := 0
	for _, id := range ids {
		t, err := b.Client.GetTask(ctx, id, patience)
		switch {
		case api.CodeOf(err) == "not_found":
			e.Logf("task %s was accepted and is unknown now", id)
			lost++
		case err != nil:
			return fmt.Errorf("read task %s: %w", id, err)
		case !harness.Terminal(string(t.State)):
			return fmt.Errorf("task %s has not ended: it is %s", id, t.State)
		}
	}
	e.Logf("%d accepted tasks, %d of them before the loss; %d are lost", len(ids), before, lost)
	if lost > 0 || before == 0 {
		return fmt.Errorf("%d of %d accepted tasks are lost", lost, len(ids))
	}
	return nil
}
