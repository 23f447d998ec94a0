package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
)

// fillable is a store that can be filled up to its reserve and emptied again.
type fillable struct {
	fill, empty func() error
	reason      string // a word of the refusal
}

// fullOnce fills the store while tasks run and others wait: submits are refused
// with the reason, and everything that was accepted ends meanwhile. With room
// again tasks are accepted by the same node.
func (e *Env) fullOnce(ctx context.Context, b *harness.Bench, s fillable, round int) error {
	pid, refused := b.Dash.PID(), b.History.Answers()[http.StatusServiceUnavailable]
	load := b.StartLoad(harness.LoadConfig{Name: fmt.Sprintf("f%d", round), Rate: 60, SessionShare: 0.3, Sessions: 12, Seed: e.Seed + uint64(round)})
	if err := harness.Pause(ctx, time.Second); err != nil {
		return err
	}
	over := b.History.Fault("disk-full", "")
	defer over()
	if err := s.fill(); err != nil {
		return err
	}
	if err := awaitStatus(ctx, b, http.StatusServiceUnavailable, refused+5); err != nil {
		return err
	}
	if err := e.refusedFor(ctx, b, s.reason); err != nil {
		return err
	}
	load.Stop(0) // what is refused is given up
	at := time.Now()
	if err := b.AwaitEnd(ctx, patience); err != nil {
		return fmt.Errorf("accepted tasks do not end while the store is full: %w", err)
	}
	ended := time.Since(at)
	if err := s.empty(); err != nil {
		return err
	}
	at = time.Now()
	key := fmt.Sprintf("room-%d", round)
	room, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := b.Submit(room, harness.Order{Key: key, Class: "high", Message: "task " + key}, nil); err != nil {
		return err
	}
	took := time.Since(at)
	e.Logf("round %d: %d submits refused, all that was accepted ended %s later on the full store, accepted again %s after room",
		round+1, b.History.Answers()[http.StatusServiceUnavailable]-refused, ended.Round(time.Millisecond), took.Round(time.Millisecond))
	switch {
	case took > servesAgain+time.Second: // the refusal's own Retry-After is 5 s
		return fmt.Errorf("a task was accepted %s after there was room, wanted %s", took, servesAgain)
	case b.Dash.PID() != pid || !b.Dash.Alive():
		return errors.New("the node did not survive")
	}
	return nil
}

// refusedFor wants a refusal that says why.
func (e *Env) refusedFor(ctx context.Context, b *harness.Bench, reason string) error {
	_, err := b.Client.SubmitTask(ctx, api.SubmitTask{Priority: "low", Input: api.SubmitInput{Message: "one more"}})
	var refusal *api.Error
	if !errors.As(err, &refusal) || refusal.Status != http.StatusServiceUnavailable || !strings.Contains(refusal.Error(), reason) {
		return fmt.Errorf("a submit to a full store got %w, want 503 with %q", errors.Join(errors.New("another answer"), err), reason)
	}
	return nil
}

// redisMemory is enough for what a node needs and for a reserve.
const redisMemory = 96 << 20

// redisFull fills the memory of the queue's server up to where new tasks are
// refused, and on to a little below its limit.
func redisFull(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{RunTime: 300 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	server := b.Servers.Redis
	if _, err := server.Do(ctx, "CONFIG", "SET", "maxmemory", fmt.Sprint(redisMemory)); err != nil {
		return err
	}
	var keys []string
	fill := func() error {
		for {
			used, err := usedMemory(ctx, b)
			if err != nil || used > redisMemory-12<<20 {
				return err
			}
			key := fmt.Sprintf("ballast-%d", len(keys))
			if _, err := server.Do(ctx, "SETRANGE", key, fmt.Sprint(1<<20), "x"); err != nil {
				return err
			}
			keys = append(keys, key)
		}
	}
	empty := func() error {
		_, err := server.Do(ctx, append([]string{"DEL"}, keys...)...)
		keys = nil
		return err
	}
	for round := range e.Rounds {
		if err := e.fullOnce(ctx, b, fillable{fill, empty, "maxmemory"}, round); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	return e.conclude(ctx, b)
}

func usedMemory(ctx context.Context, b *harness.Bench) (int64, error) {
	info, err := b.Servers.Redis.Do(ctx, "INFO", "memory")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			var n int64
			_, err := fmt.Sscan(v, &n)
			return n, err
		}
	}
	return 0, errors.New("redis does not tell its memory")
}

// fillLeaving writes zeros until the disk has only so much left.
func fillLeaving(path string, free func() (int64, error), leave int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, 256<<10)
	for {
		left, err := free()
		if err != nil || left <= leave {
			return err
		}
		if _, err := f.Write(chunk[:min(int64(len(chunk)), left-leave)]); err != nil {
			return err
		}
	}
}
