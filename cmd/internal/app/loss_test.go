package app

import (
	"context"
	"errors"
	"testing"

	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// takes counts what is taken.
type takes struct {
	persistence.Store
	n int
}

func (t *takes) Take(context.Context, messages.Scope, string, string) (messages.Fence, error) {
	t.n++
	return messages.Fence{}, nil
}

// TestNothingIsTakenWhileTheStoreIsRebuilt: a standby that has rebuilt the
// store must not take over in its last moments, and keep the others waiting.
func TestNothingIsTakenWhileTheStoreIsRebuilt(t *testing.T) {
	t.Parallel()
	store := &takes{}
	a := &App{lease: cluster.New(cluster.Config{Store: store, Shared: true})}
	if _, err := a.own(t.Context(), messages.ShardScope, "0"); err != nil || store.n != 1 {
		t.Fatalf("before: %v, took %d", err, store.n)
	}
	a.rebuilding.Store(true)
	_, err := a.own(t.Context(), messages.ShardScope, "1")
	if !errors.Is(err, persistence.ErrUnavailable) || !cluster.Passing(err) || store.n != 1 {
		t.Errorf("while the store is rebuilt: %v, took %d; want nothing, and another try", err, store.n-1)
	}
}
