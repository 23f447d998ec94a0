package cluster

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestLeaseEndsBeforeTheStoreEndsIt: a node stops to believe in its lease while
// nobody can take over yet, by a tenth of it for clocks that run apart.
func TestLeaseEndsBeforeTheStoreEndsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l Lease
		sent := time.Now()
		time.Sleep(300 * time.Millisecond) // the answer takes its time
		l.renewed(sent, nil)
		time.Sleep(1400 * time.Millisecond) // 1.7 s after it was sent
		if !l.valid() {
			t.Error("the lease of 2 s is over after 1.7 s")
		}
		time.Sleep(150 * time.Millisecond) // 1.85 s
		if l.valid() {
			t.Error("the lease of 2 s is believed after 1.85 s")
		}
	})
}

// TestLeaseDoubt: a lease that ended between two renewals is valid again only
// after a look at who owns what, however long that takes.
func TestLeaseDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l Lease
		if l.valid() {
			t.Error("valid before the first renewal")
		}
		if l.renewed(time.Now(), nil) || !l.valid() {
			t.Error("not valid after the first renewal")
		}
		time.Sleep(safety - time.Millisecond)
		if l.renewed(time.Now(), nil) || !l.valid() {
			t.Error("a renewal in time is doubted")
		}
		time.Sleep(safety + time.Millisecond)
		if l.valid() {
			t.Error("valid after its end")
		}
		for range 3 { // looks that fail
			if !l.renewed(time.Now(), nil) || l.valid() {
				t.Error("valid without a look")
			}
			time.Sleep(TTL / 5)
		}
		l.certain()
		if !l.valid() || l.renewed(time.Now(), nil) {
			t.Error("still in doubt after a look")
		}
		l.renewed(time.Now().Add(-TTL), nil) // the answer took longer than the lease
		if l.valid() {
			t.Error("valid by a renewal that was sent too long ago")
		}
	})
}

// owners are leases that know who owns what.
type owners struct {
	persistence.Leases
	rows map[messages.Scope][]messages.Ownership
}

func (o owners) Owners(_ context.Context, s messages.Scope) ([]messages.Ownership, error) {
	return o.rows[s], nil
}

// TestWhatWasTakenOverAndBackIsNotHeld: an owner of the same name in another
// epoch is another owner, for shards and for gateways; what is not lost goes on.
func TestWhatWasTakenOverAndBackIsNotHeld(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scope messages.Scope
		row   messages.Ownership
		lost  messages.Scope // 0: nothing
	}{
		"still mine":             {messages.ShardScope, messages.Ownership{Key: "7", Owner: "me", Epoch: 3}, 0},
		"another's":              {messages.ShardScope, messages.Ownership{Key: "7", Owner: "you", Epoch: 4}, messages.ShardScope},
		"nobody's":               {messages.ShardScope, messages.Ownership{Key: "7", Epoch: 3}, messages.ShardScope},
		"mine again":             {messages.ShardScope, messages.Ownership{Key: "7", Owner: "me", Epoch: 5}, messages.ShardScope},
		"another's gateway":      {messages.GatewayScope, messages.Ownership{Key: "gw", Owner: "you", Epoch: 4}, messages.GatewayScope},
		"another gateway's":      {messages.GatewayScope, messages.Ownership{Key: "7", Owner: "you", Epoch: 4}, 0},
		"a shard called like it": {messages.ShardScope, messages.Ownership{Key: "gw", Owner: "you", Epoch: 4}, 0},
	} {
		var lost []messages.Fence
		l := New(Config{Store: owners{rows: map[messages.Scope][]messages.Ownership{c.scope: {c.row}}},
			Logger: slog.New(slog.DiscardHandler), Lost: func(f messages.Fence) { lost = append(lost, f) }})
		mine := []messages.Fence{{Scope: messages.ShardScope, Key: "7", Owner: "me", Epoch: 3}, {Scope: messages.GatewayScope, Key: "gw", Owner: "me", Epoch: 3}}
		for _, f := range mine {
			l.hold(f)
		}
		for range 2 { // what is lost is told once
			if err := l.Look(t.Context(), messages.ShardScope, messages.GatewayScope); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range mine {
			if got, want := l.Owns(f), f.Scope != c.lost; got != want || slices.Contains(lost, f) == want {
				t.Errorf("%s: scope %d is owned: %v, want %v; told: %v", name, f.Scope, got, want, lost)
			}
		}
		if len(lost) > 1 {
			t.Errorf("%s: told %v", name, lost)
		}
	}
}
