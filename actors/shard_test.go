package actors_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors"
	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/messages"
)

// apart is a pool on another shard than that of the default pool and of the gateways.
func (b *bench) apart() string {
	taken := map[int]bool{messages.Shard(messages.DefaultPool): true}
	for _, g := range b.gateways {
		taken[messages.Shard(g.Gateway.ID)] = true
	}
	for i := 0; ; i++ {
		if id := fmt.Sprint("p-", i); !taken[messages.Shard(id)] {
			return id
		}
	}
}

// beside are n pools on the shard of the first one, which is pool.
func (b *bench) beside(pool string, n int) (ids []string) {
	ids = append(ids, pool)
	for i := 0; len(ids) < n; i++ {
		if id := fmt.Sprint("beside-", i); messages.Shard(id) == messages.Shard(pool) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (b *bench) add(pool string) {
	b.t.Helper()
	cfg := b.pool
	cfg.Pool.ID = pool
	if err := b.node.AddPool(b.t.Context(), cfg); err != nil {
		b.t.Fatal(err)
	}
}

// take has another node own the shard of a pool, whose present fence is given.
func (b *bench) take(f messages.Fence) {
	b.t.Helper()
	if err := b.store.Release(b.t.Context(), f); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.store.Renew(b.t.Context(), messages.Node{ID: "n2"}, time.Minute); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.store.Take(b.t.Context(), f.Scope, f.Key, "n2"); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) runs(pool string) bool {
	_, ok := b.node.Pool(pool)
	return ok
}

// TestALostShardStopsAlone: what a fenced write of one pool ends is its shard; the
// node goes on, and runs the shard again in a later epoch.
func TestALostShardStopsAlone(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 2, time.Millisecond)
	other := b.apart()
	fence := b.shard(other)
	b.add(other)
	b.take(fence)
	pid, _ := b.node.Pool(other)
	reply := make(chan dispatch.SubmitReply, 1)
	b.node.Root().Send(pid, &dispatch.Submit{Reply: reply, Task: messages.Task{
		ID: messages.NewID(), Tenant: messages.DefaultTenant, Pool: other, Class: messages.High,
		Spec: &messages.TaskSpec{Message: "late", TimeoutSeconds: 60, MaxAttempts: 1}, CreatedAt: messages.Now(),
	}})
	select {
	case r := <-reply:
		if messages.CodeOf(r.Err) != messages.CodeUnavailable {
			t.Fatalf("a submit to a lost pool: %v", r.Err)
		}
	case <-b.node.Left(other): // while the pool read itself back
	}
	b.until("the shard is gone", 10*time.Second, func() bool { return !b.runs(other) })
	if _, ok := b.node.Shard(messages.Shard(other)); ok {
		t.Error("the node says that it runs the lost shard")
	}
	cfg := b.pool
	cfg.Pool.ID = other
	if err := b.node.AddPool(t.Context(), cfg); !errors.Is(err, actors.ErrNoShard) {
		t.Errorf("a pool in a lost shard: %v", err)
	}
	if b.wait(b.submit(messages.High, "", "hello").ID).State != messages.Succeeded {
		t.Error("the other shard does not work")
	}
	if _, err := b.store.Renew(t.Context(), messages.Node{ID: "n2"}, time.Microsecond); err != nil {
		t.Fatal(err)
	}
	b.until("the shard is free", 10*time.Second, func() bool {
		f, err := b.store.Take(t.Context(), fence.Scope, fence.Key, "n1")
		return err == nil && f.Epoch > fence.Epoch
	})
	if again := b.shard(other); again.Epoch <= fence.Epoch {
		t.Fatalf("epoch %d after %d", again.Epoch, fence.Epoch)
	}
	b.add(other)
	b.node.Lost(fence) // comes late: that epoch is over
	if _, err := b.ask(other); err != nil {
		t.Errorf("the shard does not work in its new epoch: %v", err)
	}
}

// ask waits for an answer of a pool's owner.
func (b *bench) ask(pool string) (dispatch.Stats, error) {
	pid, _ := b.node.Pool(pool)
	reply := make(chan dispatch.Stats, 1)
	b.node.Root().Send(pid, dispatch.QueueStats{Reply: reply})
	select {
	case s := <-reply:
		return s, nil
	case <-time.After(10 * time.Second):
		return dispatch.Stats{}, errors.New("no answer")
	}
}

// TestAStoppedShardHasWrittenAll: when a stop returns, what its owners asked for is in
// the store, and the next one of that shard finds it.
func TestAStoppedShardHasWrittenAll(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 1, time.Millisecond)
	shard := messages.Shard(messages.DefaultPool)
	fence, _ := b.node.Shard(shard)
	tasks := 0
	for range 5 {
		for i := range 20 {
			pid, _ := b.node.Pool(messages.DefaultPool)
			b.node.Root().Send(pid, &dispatch.Submit{Task: messages.Task{
				ID: messages.NewID(), Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, Class: messages.Classes[i%4],
				Spec: &messages.TaskSpec{Message: "x", TimeoutSeconds: 60, MaxAttempts: 3}, CreatedAt: messages.Now(),
			}})
		}
		tasks++
		b.submit(messages.Low, "", "counted")
		if err := b.node.StopShard(t.Context(), shard); err != nil {
			t.Fatal(err)
		}
		seq, err := b.store.MaxSeq(t.Context(), messages.DefaultPool)
		if err != nil || seq < int64(tasks) {
			t.Fatalf("seq %d, %v", seq, err)
		}
		if err := b.node.StopShard(t.Context(), shard); err != nil {
			t.Errorf("a stop of what has stopped: %v", err)
		}
		if later, _ := b.store.MaxSeq(t.Context(), messages.DefaultPool); later != seq {
			t.Errorf("seq %d was written after the stop at %d", later, seq)
		}
		if b.runs(messages.DefaultPool) {
			t.Error("its pool still runs")
		}
		if err := b.node.AddShard(t.Context(), fence); err != nil {
			t.Fatal(err)
		}
		b.add(messages.DefaultPool)
	}
	later := fence
	later.Epoch++
	if err := b.node.AddShard(t.Context(), later); err == nil {
		t.Error("one shard runs in two epochs")
	}
}

// TestALostShardTakesItsGateways along, and a gateway that is lost alone only itself.
func TestALostShardTakesItsGateways(t *testing.T) {
	t.Parallel()
	b := start(t, 2, 1, time.Millisecond)
	first, second := b.gateways[0], b.gateways[1]
	if messages.Shard(first.Gateway.ID) == messages.Shard(second.Gateway.ID) {
		t.Fatal("the test needs gateways on two shards")
	}
	there := func(id string) bool { _, ok := b.node.Gateway(id); return ok }
	b.node.Lost(messages.Fence{Scope: messages.GatewayScope, Key: first.Gateway.ID, Owner: "n1", Epoch: first.Fence.Epoch - 1})
	b.node.Lost(second.Fence)
	b.until("the second gateway stops", 10*time.Second, func() bool { return !there(second.Gateway.ID) })
	if !there(first.Gateway.ID) {
		t.Error("a gateway stopped for an epoch that is not its own")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.node.AddGateway(ctx, second); err != nil {
		t.Fatal(err)
	}
	fence, _ := b.node.Shard(messages.Shard(first.Gateway.ID))
	b.node.Lost(fence)
	b.until("the first gateway stops with its shard", 10*time.Second, func() bool { return !there(first.Gateway.ID) })
	if !there(second.Gateway.ID) {
		t.Error("a gateway of another shard stopped")
	}
}

// TestAShardEndsBesideNewOwners: who asks for an owner while its shard stops gets one
// that ends with it, or none; the shard waits for no owner for ever.
func TestAShardEndsBesideNewOwners(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 1, time.Millisecond)
	ids := b.beside(b.apart(), 8)
	for round := range 200 {
		fence := b.shard(ids[0])
		for _, id := range ids[4:] {
			b.add(id)
		}
		var adding sync.WaitGroup
		for _, id := range ids[:4] {
			adding.Go(func() {
				cfg := b.pool
				cfg.Pool.ID = id
				if err := b.node.AddPool(t.Context(), cfg); err != nil && !errors.Is(err, actors.ErrNoShard) {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Duration(round%20) * 10 * time.Microsecond) // another moment in each round
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := b.node.StopShard(ctx, messages.Shard(ids[0]))
		cancel()
		adding.Wait()
		if err != nil || b.runs(ids[0]) {
			t.Fatalf("round %d: %v; the pool runs: %v", round, err, b.runs(ids[0]))
		}
		if err := b.store.Release(t.Context(), fence); err != nil {
			t.Fatal(err)
		}
	}
}
