package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
	"github.com/dash-fleet/dash/soak/judge"
)

// untilTaken repeats a submit while the node has no place for it, as clients do.
func untilTaken(ctx context.Context, submit func() (*api.Task, error)) (*api.Task, error) {
	for {
		t, err := submit()
		var refusal *api.Error
		if !errors.As(err, &refusal) || refusal.Status != http.StatusServiceUnavailable {
			return t, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func oneKey(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{RunTime: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	first, err := b.Submit(ctx, harness.Order{Key: "before", Class: "high", Message: "task before"}, nil)
	if err != nil {
		return err
	}
	labels := api.Labels{judge.KeyLabel: "same"}
	body := api.SubmitTask{Priority: "high", Input: api.SubmitInput{Message: "the same task"}, Labels: &labels}
	var mu sync.Mutex
	ids := map[string]int{}
	start := make(chan struct{})
	var g errgroup.Group
	for range 1000 {
		g.Go(func() error {
			<-start
			t, err := untilTaken(ctx, func() (*api.Task, error) { return b.Client.SubmitTask(ctx, body, api.WithIdempotencyKey("same")) })
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			ids[t.Id]++
			return nil
		})
	}
	close(start)
	if err := g.Wait(); err != nil {
		return fmt.Errorf("one of the submits: %w", err)
	}
	if len(ids) != 1 {
		return fmt.Errorf("1,000 submits with one key were answered with %d tasks: %v", len(ids), ids)
	}
	body.Input.Message = "another task"
	var refusal *api.Error
	if _, err := b.Client.SubmitTask(ctx, body, api.WithIdempotencyKey("same")); !errors.As(err, &refusal) || refusal.Status != http.StatusUnprocessableEntity {
		return fmt.Errorf("the same key with another body was answered %v, want 422", err)
	}
	if err := e.conclude(ctx, b); err != nil {
		return err
	}
	h, _, err := b.Judge(ctx)
	if err != nil {
		return err
	}
	if len(h.Tasks) != 2 || !slices.ContainsFunc(h.Tasks, func(t api.Task) bool { return t.Id == first.Id }) {
		return fmt.Errorf("%d tasks exist, want 2", len(h.Tasks))
	}
	return nil
}

func queueFull(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{Gateways: 1, Slots: 2, RunTime: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := limit(ctx, b, 10); err != nil {
		return err
	}
	if err := submitMany(ctx, b, e.rng(), "f", 300, 100); err != nil {
		return err
	}
	full := b.History.Answers()[http.StatusTooManyRequests]
	e.Logf("answers by status: %v", b.History.Answers())
	if full == 0 {
		return errors.New("no submit was answered with 429, so nothing was tested")
	}
	return e.conclude(ctx, b)
}

// limit lets each class of the default pool hold n waiting tasks.
func limit(ctx context.Context, b *harness.Bench, n int) error {
	l := &api.PutClassLimit{Count: &n}
	put := api.PutPool{Limits: &api.PutLimits{Critical: l, High: l, Medium: l, Low: l}}
	p, err := b.Client.GetPool(ctx, "default")
	if err != nil {
		return fmt.Errorf("read pool: %w", err)
	}
	how := api.WithVersion(p.Version)
	if p.Version == 0 { // made with the first change
		how = api.WithCreateOnly()
	}
	if _, err := b.Client.PutPool(ctx, "default", put, how); err != nil {
		return fmt.Errorf("limit pool: %w", err)
	}
	return nil
}
