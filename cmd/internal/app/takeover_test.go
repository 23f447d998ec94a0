package app

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// TestWhoTakesOverShowsTheLastEvents of the owner before, in order, and none twice.
func TestWhoTakesOverShowsTheLastEvents(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Store, cfg.PostgresURL = config.EnginePostgres, messages.Secret(testserver.Postgres(t).Database(t))
	owner, next := helped(t, cfg, "owner"), helped(t, cfg, "next") // which never looks by itself
	if owner.Standby() != "" || next.Standby() == "" {
		t.Fatalf("standing by: %q and %q", owner.Standby(), next.Standby())
	}
	watch := next.Commands().Events.Subscribe(5000)
	t.Cleanup(watch.Close)
	adminKey, _ := owner.AdminKey()
	admin := apiClient(t, owner, adminKey)
	const many = 600 // more than one look reads
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
	for i := range seqs {
		if seqs[i] != seqs[0]+int64(i) {
			t.Fatalf("event %d came in place of %d", seqs[i], seqs[0]+int64(i))
		}
	}
	eventually(t, "the node works", func() bool { return next.Standby() == "" })
}
