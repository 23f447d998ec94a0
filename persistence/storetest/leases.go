package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

var leaseTests = map[string]func(*testing.T, Engine){
	"take and release":          takeRelease,
	"take over when it ends":    takeOver,
	"renew lists the valid":     renewLists,
	"epoch grows over restarts": epochRestart,
	"owners":                    owners,
	"a lease that comes back":   leaseRevived,
	"leases outlive a process":  leaseShared,
}

func renew(t testing.TB, e Engine, node string, ttl time.Duration) []messages.Node {
	t.Helper()
	list, err := e.Store().Renew(t.Context(), messages.Node{ID: node, Addr: "127.0.0.1:1", Region: "eu", Version: "v1", Sees: 2, Home: "h-" + node}, ttl)
	if err != nil {
		t.Fatalf("renew: %v", err)
	}
	return list
}

func takeRelease(t *testing.T, e Engine) {
	ctx, s := t.Context(), e.Store()
	renew(t, e, "n-1", time.Hour)
	renew(t, e, "n-2", time.Hour)
	f := take(t, e, messages.ShardScope, "1", "n-1")
	if f != (messages.Fence{Scope: messages.ShardScope, Key: "1", Owner: "n-1", Epoch: 1}) {
		t.Fatalf("fence %+v", f)
	}
	if again := take(t, e, messages.ShardScope, "1", "n-1"); again != f {
		t.Errorf("taking what one holds: %+v", again)
	}
	if _, err := s.Take(ctx, messages.ShardScope, "1", "n-2"); !errors.Is(err, persistence.ErrOwned) {
		t.Errorf("taking what another holds: %v", err)
	}
	if other := take(t, e, messages.GatewayScope, "1", "n-2"); other.Epoch != 1 {
		t.Errorf("scopes are not apart: %+v", other)
	}
	late := f
	late.Epoch--
	foreign := f
	foreign.Owner = "n-2"
	for _, bad := range []messages.Fence{late, foreign, {Scope: messages.ShardScope, Key: "9"}} {
		if err := s.Release(ctx, bad); !errors.Is(err, persistence.ErrFenced) {
			t.Errorf("release of %+v: %v", bad, err)
		}
	}
	if err := s.Release(ctx, f); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(ctx, f); !errors.Is(err, persistence.ErrFenced) {
		t.Errorf("release twice: %v", err)
	}
	if g := take(t, e, messages.ShardScope, "1", "n-2"); g.Epoch != 2 {
		t.Errorf("epoch %d after release", g.Epoch)
	}
}

func takeOver(t *testing.T, e Engine) {
	renew(t, e, "n-2", time.Hour)
	renew(t, e, "n-1", 3*time.Second) // long enough for a busy machine to see it valid
	f := take(t, e, messages.ShardScope, "1", "n-1")
	if _, err := e.Store().Take(t.Context(), messages.ShardScope, "1", "n-2"); !errors.Is(err, persistence.ErrOwned) {
		t.Fatalf("taken from a valid owner: %v", err)
	}
	var g messages.Fence
	eventually(t, "lease over", func() bool {
		var err error
		g, err = e.Store().Take(t.Context(), messages.ShardScope, "1", "n-2")
		return err == nil
	})
	if g.Epoch != f.Epoch+1 || g.Owner != "n-2" {
		t.Errorf("fence %+v", g)
	}
	op := insert(newTask())
	op.Fences = []messages.Fence{f}
	one(t, e, op, persistence.Fenced)
	// The old owner comes back: it does not get its shard, nor its epoch.
	renew(t, e, "n-1", time.Hour)
	if _, err := e.Store().Take(t.Context(), messages.ShardScope, "1", "n-1"); !errors.Is(err, persistence.ErrOwned) {
		t.Errorf("the old owner took it back: %v", err)
	}
}

func renewLists(t *testing.T, e Engine) {
	before := time.Now()
	renew(t, e, "n-2", time.Hour)
	renew(t, e, "n-3", 50*time.Millisecond)
	list := renew(t, e, "n-1", time.Hour)
	if len(list) < 2 || list[0].ID != "n-1" || list[0].Addr != "127.0.0.1:1" || list[0].Region != "eu" || list[0].Version != "v1" || list[0].Sees != 2 || list[0].Home != "h-n-1" {
		t.Fatalf("nodes %+v", list)
	}
	if d := list[0].Expires.Sub(before); d < 59*time.Minute || d > 61*time.Minute {
		t.Errorf("expires in %v", d)
	}
	eventually(t, "n-3 over", func() bool { return len(renew(t, e, "n-1", time.Hour)) == 2 })
}

func epochRestart(t *testing.T, e Engine) {
	last := int64(0)
	for i := range 3 {
		renew(t, e, fmt.Sprint("n-", i), 50*time.Millisecond)
		var f messages.Fence
		// An engine that serves one process takes at once, others when the
		// lease of before is over.
		eventually(t, "take after restart", func() bool {
			var err error
			f, err = e.Store().Take(t.Context(), messages.ShardScope, "1", fmt.Sprint("n-", i))
			return err == nil
		})
		if f.Epoch <= last {
			t.Fatalf("epoch %d after %d", f.Epoch, last)
		}
		last = f.Epoch
		e.Restart(t)
	}
}

func owners(t *testing.T, e Engine) {
	renew(t, e, "n-1", time.Hour)
	for _, key := range []string{"2", "1", "3"} {
		take(t, e, messages.ShardScope, key, "n-1")
	}
	if err := e.Store().Release(t.Context(), messages.Fence{Scope: messages.ShardScope, Key: "3", Owner: "n-1", Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	take(t, e, messages.GatewayScope, "gw", "n-1")
	got, err := e.Store().Owners(t.Context(), messages.ShardScope)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, []messages.Ownership{
		{Scope: messages.ShardScope, Key: "1", Owner: "n-1", Epoch: 1}, {Scope: messages.ShardScope, Key: "2", Owner: "n-1", Epoch: 1},
		{Scope: messages.ShardScope, Key: "3", Epoch: 1},
	})
}
