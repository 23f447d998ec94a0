package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// TestWhoTakesOverShowsTheLastEvents of the owner before, although it had not
// looked at the log since they were written: its watchers, and those who wait
// for a task's end there, would never hear of them.
func TestWhoTakesOverShowsTheLastEvents(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Store, cfg.PostgresURL = config.EnginePostgres, messages.Secret(testserver.Postgres(t).Database(t))
	owner, next := helped(t, cfg, "owner", 0), helped(t, cfg, "next", 0) // which never looks by itself
	if owner.Standby() != "" || next.Standby() == "" {
		t.Fatalf("standing by: %q and %q", owner.Standby(), next.Standby())
	}
	watch := next.Commands().Events.Subscribe(5000)
	t.Cleanup(watch.Close)
	adminKey, _ := owner.AdminKey()
	admin := apiClient(t, owner, adminKey)
	const many = tailPage + 100 // more than one look reads
	want := map[string]bool{}
	ids := make(chan string, many)
	var clients errgroup.Group
	clients.SetLimit(16)
	for i := range many {
		clients.Go(func() error {
			task, err := admin.SubmitTask(t.Context(), api.SubmitTask{Priority: api.PriorityHigh, Input: api.SubmitInput{Message: fmt.Sprint(i)}})
			if err == nil {
				ids <- task.Id
			}
			return err
		})
	}
	if err := clients.Wait(); err != nil {
		t.Fatal(err)
	}
	close(ids)
	for id := range ids {
		want[id] = true
	}
	if err := owner.Stop(); err != nil {
		t.Fatal(err)
	}
	// It gave up what it owned: nobody has to wait for the end of its lease.
	for _, row := range must(next.store.Owners(t.Context(), messages.ShardScope))(t) {
		if row.Owner == owner.nodeID {
			t.Errorf("shard %s still belongs to the node that has stopped", row.Key)
		}
	}
	end := time.After(patience)
	var seqs []int64
	for len(want) > 0 {
		select {
		case e, open := <-watch.C():
			if !open {
				t.Fatal("the watch was cut")
			}
			seqs = append(seqs, e.Seq)
			delete(want, e.Subject)
		case <-end:
			t.Fatalf("%d of %d tasks of the owner before were never seen at the node that took over", len(want), many)
		}
	}
	slices.Sort(seqs)
	if same := slices.Compact(slices.Clone(seqs)); len(same) != len(seqs) {
		t.Errorf("%d events came twice", len(seqs)-len(same))
	}
	eventually(t, "the node works", func() bool { return next.Standby() == "" })
}

// owners is a store that knows who owns what.
type owners struct {
	persistence.Store
	rows map[messages.Scope][]messages.Ownership
}

func (o owners) Owners(_ context.Context, s messages.Scope) ([]messages.Ownership, error) {
	return o.rows[s], nil
}

// TestWhatWasTakenOverAndBackIsNotHeld: an owner of the same name in another
// epoch is another owner, for shards and for gateways.
func TestWhatWasTakenOverAndBackIsNotHeld(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scope messages.Scope
		row   messages.Ownership
		want  error
	}{
		"still mine":             {messages.ShardScope, messages.Ownership{Key: "7", Owner: "me", Epoch: 3}, nil},
		"another's":              {messages.ShardScope, messages.Ownership{Key: "7", Owner: "you", Epoch: 4}, persistence.ErrFenced},
		"mine again":             {messages.ShardScope, messages.Ownership{Key: "7", Owner: "me", Epoch: 5}, persistence.ErrFenced},
		"another's gateway":      {messages.GatewayScope, messages.Ownership{Key: "gw", Owner: "you", Epoch: 4}, persistence.ErrFenced},
		"another gateway's":      {messages.GatewayScope, messages.Ownership{Key: "7", Owner: "you", Epoch: 4}, nil},
		"a shard called like it": {messages.ShardScope, messages.Ownership{Key: "gw", Owner: "you", Epoch: 4}, nil},
	} {
		a := &App{store: owners{rows: map[messages.Scope][]messages.Ownership{c.scope: {c.row}}}}
		a.lease.hold(messages.Fence{Scope: messages.ShardScope, Key: "7", Owner: "me", Epoch: 3})
		a.lease.hold(messages.Fence{Scope: messages.GatewayScope, Key: "gw", Owner: "me", Epoch: 3})
		if err := a.stillOwns(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
