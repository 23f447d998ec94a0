package dispatch

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestStoreHasNoRoom: new tasks are refused with the store's reason while the
// one under way ends, and whoever repeats an accepted submit gets its task.
func TestStoreHasNoRoom(t *testing.T) {
	var full atomic.Bool
	play(t, func(c *Config) {
		c.Room = func() persistence.Room {
			if full.Load() {
				return persistence.Room{Why: "the disk is full", Next: "free space"}
			}
			return persistence.Room{Left: 1}
		}
	}, func(t *testing.T, b *bench) {
		first := Submit{Task: newTask(messages.High, ""), IdemKey: "k", IdemHash: []byte("a")}
		if _, _, err := b.client.Submit(b.ctx(), "default", first); err != nil {
			t.Fatal(err)
		}
		full.Store(true)
		_, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.High, "")})
		var refused *messages.Error
		if !errors.As(err, &refused) || refused.Code != messages.CodeUnavailable || !strings.Contains(refused.Message, "the disk is full") || refused.NextStep == "" || refused.RetryAfter != fullRetry {
			t.Fatalf("without room: %#v", err)
		}
		again := Submit{Task: newTask(messages.High, ""), IdemKey: "k", IdemHash: []byte("a")}
		if got, existing, err := b.client.Submit(b.ctx(), "default", again); err != nil || !existing || got.ID != first.Task.ID {
			t.Fatalf("a repetition without room: %s existing %v err %v", got.ID, existing, err)
		}
		g := b.gateway("gw-1")
		g.demand(1)
		if ended := g.end(g.assign(), messages.Succeeded); ended.ID != first.Task.ID {
			t.Fatalf("%s ended, want the task under way", ended.ID)
		}
		full.Store(false)
		b.submit(newTask(messages.High, ""))
	})
}
