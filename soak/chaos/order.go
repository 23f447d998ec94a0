package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
)

// hold occupies the only slot with a long run and waits until it runs.
func hold(ctx context.Context, b *harness.Bench, key string, d time.Duration) (*api.Task, error) {
	t, err := b.Submit(ctx, harness.Order{Key: key, Class: "low", Message: fmt.Sprintf("[[delay=%d]]hold %s", d.Milliseconds(), key)}, nil)
	if err != nil {
		return nil, err
	}
	_, err = b.Watcher.AwaitState(ctx, patience, t.Id, api.TaskStateRunning)
	return t, err
}

// submitMany submits n tasks of random classes with several clients at once.
func submitMany(ctx context.Context, b *harness.Bench, rng *rand.Rand, prefix string, n, clients int) error {
	orders := make([]harness.Order, n)
	for i := range orders {
		orders[i] = harness.Order{Key: fmt.Sprintf("%s-%d", prefix, i), Class: harness.Classes[rng.IntN(4)]}
		orders[i].Message = "task " + orders[i].Key
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(clients)
	for _, o := range orders {
		g.Go(func() error {
			_, err := b.Submit(ctx, o, nil)
			return err
		})
	}
	return g.Wait()
}

func orderOneSlot(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{Gateways: 1, Slots: 1, RunTime: time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	blocker, err := hold(ctx, b, "first", 30*time.Second)
	if err != nil {
		return err
	}
	if err := submitMany(ctx, b, e.rng(), "o", 400, 8); err != nil {
		return err
	}
	if _, err := b.Client.CancelTask(ctx, blocker.Id, api.CancelTask{}); err != nil {
		return fmt.Errorf("free the slot: %w", err)
	}
	if err := e.conclude(ctx, b); err != nil {
		return err
	}
	return checkSorted(ctx, b, blocker.Id)
}

// checkSorted compares the order of the frames at the gateway with the order
// of (class, place in the queue). Ids are of version 7 and made in order of
// acceptance by one node, so that they say what was first inside a class.
func checkSorted(ctx context.Context, b *harness.Bench, except string) error {
	h, _, err := b.Judge(ctx)
	if err != nil {
		return err
	}
	type place struct {
		rank int
		seq  int64
	}
	places := map[string]place{}
	for _, ev := range h.Events {
		if ev.Type == "task.state" && ev.State == "queued" {
			places[ev.ID] = place{slices.Index(harness.Classes, ev.Class), ev.QueueSeq}
		}
	}
	var got []string
	for _, l := range h.Lines {
		id, _, _ := strings.Cut(l.RunID, ".")
		if _, ours := places[id]; ours && l.Event == openclawtest.LogAccepted && id != except {
			got = append(got, id)
		}
	}
	want := slices.SortedFunc(slices.Values(got), func(x, y string) int {
		a, b := places[x], places[y]
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.seq, b.seq))
	})
	if len(got) != 400 {
		return fmt.Errorf("the gateway got %d runs, want 400", len(got))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("frame %d at the gateway is %s %v, want %s %v", i, got[i], places[got[i]], want[i], places[want[i]])
		}
	}
	return nil
}

func orderFiveGateways(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{Gateways: 5, Slots: 2, RunTime: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	load := b.StartLoad(harness.LoadConfig{Name: "r", Rate: 250, Mix: [4]int{1, 1, 1, 1}, SessionShare: 0.2, Sessions: 20, Seed: e.Seed,
		Mark: func(r *rand.Rand) string { return fmt.Sprintf("[[delay=%d]]", 5+r.IntN(75)) }})
	if err := harness.Pause(ctx, 4*time.Second); err != nil {
		return err
	}
	load.Stop(patience)
	return e.conclude(ctx, b)
}
