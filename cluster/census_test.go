package cluster

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// running is a store with a run at some gateways. It counts the questions.
type running struct {
	persistence.Store
	at    []string
	asked int
}

func (r *running) Tasks(_ context.Context, f persistence.TaskFilter, _ string, _ int) (found []messages.Task, _ string, _ error) {
	r.asked++
	for i, id := range r.at {
		if f.Gateway == "" || f.Gateway == id {
			found = append(found, messages.Task{ID: fmt.Sprint(i), Gateway: id, State: messages.Running})
		}
	}
	return found, "", nil
}

// listed is a repository of so many gateways, by turns of two homes.
type listed struct {
	persistence.Gateways
	n int
}

func (l listed) List(context.Context) (all []messages.Gateway, _ error) {
	for i := range l.n {
		all = append(all, messages.Gateway{ID: fmt.Sprint("gw-", i), Managed: &messages.Managed{}, Home: []string{"h1", "h2"}[i%2]})
	}
	return all, nil
}

// TestACensusAsksOnce for the runs at all gateways, however many there are.
func TestACensusAsksOnce(t *testing.T) {
	t.Parallel()
	for _, at := range [][]string{nil, {"gw-0"}, {"gw-7"}, {"elsewhere"}, {"gw-2", "gw-3"}} {
		store, c := &running{at: at}, &census{}
		if _, err := c.rows(t.Context(), listed{n: 100}); err != nil {
			t.Fatal(err)
		}
		for i, id := range []string{"h1", "h2"} {
			want := slices.ContainsFunc(at, func(g string) bool {
				var n int
				_, err := fmt.Sscanf(g, "gw-%d", &n)
				return err == nil && n%2 == i
			})
			if got := c.unread(t.Context(), store, Home{ID: id}); got != want {
				t.Errorf("runs at %v: home %s has some: %v, want %v", at, id, got, want)
			}
		}
		if store.asked > 1 {
			t.Errorf("runs at %v: the store was asked %d times", at, store.asked)
		}
	}
}
