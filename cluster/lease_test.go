package cluster

import (
	"context"
	"errors"
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
		l := New(Config{Store: owners{rows: map[messages.Scope][]messages.Ownership{c.scope: {c.row}}}})
		l.hold(messages.Fence{Scope: messages.ShardScope, Key: "7", Owner: "me", Epoch: 3})
		l.hold(messages.Fence{Scope: messages.GatewayScope, Key: "gw", Owner: "me", Epoch: 3})
		if err := l.stillOwns(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
