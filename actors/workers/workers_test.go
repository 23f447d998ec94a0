package workers

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

var _ actor.Dispatcher = (*Pool)(nil)

func TestEveryTurnRunsAndIdleWorkersEnd(t *testing.T) {
	t.Parallel()
	// synctest fails when a goroutine is left over at the end.
	synctest.Test(t, func(t *testing.T) {
		p := New()
		var wg sync.WaitGroup
		var mu sync.Mutex
		n := 0
		for range 1000 {
			wg.Add(1)
			p.Schedule(func() {
				defer wg.Done()
				mu.Lock()
				defer mu.Unlock()
				n++
			})
		}
		wg.Wait()
		if n != 1000 {
			t.Errorf("%d of 1000 turns ran", n)
		}
		time.Sleep(2 * sweepEvery)
	})
}

func TestATurnNeverWaitsForAnother(t *testing.T) {
	t.Parallel()
	p := New()
	block, ran := make(chan struct{}), make(chan struct{})
	p.Schedule(func() { <-block })
	p.Schedule(func() { close(ran) })
	<-ran
	close(block)
}

// deep needs more stack than a goroutine starts with, as a real turn does.
func deep(n int) int {
	var pad [256]byte
	pad[n%256] = byte(n)
	if n == 0 {
		return int(pad[0])
	}
	return deep(n-1) + int(pad[n%256])
}

func BenchmarkTurn(b *testing.B) {
	for _, d := range []struct {
		name string
		d    actor.Dispatcher
	}{{"goroutine_per_turn", actor.NewDefaultDispatcher(300)}, {"kept_workers", New()}} {
		b.Run(d.name, func(b *testing.B) {
			done := make(chan struct{}, 64)
			for range b.N {
				d.d.Schedule(func() { deep(40); done <- struct{}{} })
				<-done
			}
		})
	}
}
