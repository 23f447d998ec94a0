package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dash-fleet/dash/messages"
)

// shared is a log that several nodes write to.
type shared struct {
	mu      sync.Mutex
	entries []*messages.Event
	reads   int
	down    bool
	mute    bool // it tells of nothing
	tell    []chan int64
}

// write commits n events and returns them.
func (l *shared) write(n int) (batch []*messages.Event) {
	l.mu.Lock()
	for range n {
		batch = append(batch, event(int64(len(l.entries)+1), "t", "queued"))
		l.entries = append(l.entries, batch[len(batch)-1])
	}
	tell, newest := l.tell, int64(len(l.entries))
	l.mu.Unlock()
	for _, told := range tell {
		told <- newest
	}
	return batch
}

func (l *shared) Events(_ context.Context, since int64, limit int) ([]*messages.Event, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if l.down {
		return nil, 0, errors.New("it does not answer")
	}
	rest := l.entries[min(int(since), len(l.entries)):]
	return rest[:min(limit, len(rest))], 1, nil
}

func (l *shared) WatchEvents(ctx context.Context, grown func(int64)) error {
	l.mu.Lock()
	mute, told := l.mute, make(chan int64, 1000)
	if !mute {
		l.tell = append(l.tell, told)
	}
	l.mu.Unlock()
	if mute {
		return errors.New("it tells nothing")
	}
	for newest := int64(math.MaxInt64); ; {
		grown(newest)
		select {
		case newest = <-told:
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *shared) set(down, mute bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.mute = down, mute
}

func (l *shared) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reads
}

// join starts a feed of the log; its watcher has room for everything.
func join(ctx context.Context, l *shared, every time.Duration) (*Feed, *Subscription) {
	f := New(0, nil)
	s := f.Subscribe(10_000)
	go f.Follow(ctx, Tail{Log: l, Every: every, Logger: slog.New(slog.DiscardHandler)})
	return f, s
}

// all checks that the watcher got the events up to last, each once and in order.
func all(s *Subscription, last int) error {
	if len(s.ch) != last {
		return fmt.Errorf("%d events, want %d", len(s.ch), last)
	}
	for want := int64(1); len(s.ch) > 0; want++ {
		if e := <-s.ch; e.Seq != want {
			return fmt.Errorf("seq %d, want %d", e.Seq, want)
		}
	}
	return nil
}

func wantAll(t *testing.T, s *Subscription, last int) {
	t.Helper()
	if err := all(s, last); err != nil {
		t.Fatal(err)
	}
}

// TestAHoleOutlivesAnOutage: nothing else comes that would make the feed look again.
func TestAHoleOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := &shared{}
		f, s := join(ctx, l, 0)
		l.write(1)
		l.set(true, false)
		f.Publish(l.write(1))
		synctest.Wait()
		l.set(false, false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantAll(t, s, 2)
	})
}

func TestOwnBatchesAreNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := &shared{}
		f, s := join(ctx, l, time.Second)
		synctest.Wait()
		time.Sleep(2 * settle)
		began := l.count()
		for range 100 { // told of, and published a little later, as a committer does
			batch := l.write(3)
			time.Sleep(settle / 2)
			f.Publish(batch)
		}
		time.Sleep(2 * settle)
		wantAll(t, s, 300)
		if n := l.count() - began; n > 0 {
			t.Errorf("the log was read %d times for what this node wrote", n)
		}
	})
}

// TestOwnBatchBehindAHole: it is told of after what is missing before it.
func TestOwnBatchBehindAHole(t *testing.T) {
	t.Parallel()
	for name, every := range map[string]time.Duration{"several writers": time.Hour, "one writer, who lost a batch": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				l := &shared{mute: true}
				f, s := join(ctx, l, every)
				f.Publish(l.write(1))
				l.write(tailPage + 1) // another node's
				f.Publish(l.write(2))
				if len(s.ch) != 1 {
					t.Fatalf("%d events before the log was read", len(s.ch))
				}
				synctest.Wait()
				f.Publish(l.write(1))
				wantAll(t, s, tailPage+5)
			})
		})
	}
}

// TestEventsOfOthers are told of at once if the store says so, and else by polling.
func TestEventsOfOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := &shared{}
		f, s := join(ctx, l, time.Minute)
		ended, stop := f.AwaitEnd("theirs")
		defer stop()
		synctest.Wait()
		l.mu.Lock()
		l.entries = append(l.entries, event(1, "theirs", "succeeded"))
		l.mu.Unlock()
		l.write(2 * tailPage)
		time.Sleep(settle)
		synctest.Wait()
		wantAll(t, s, 2*tailPage+1)
		select {
		case <-ended:
		default:
			t.Error("the end of another node's task was not told")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := &shared{mute: true}
		_, s := join(ctx, l, time.Second)
		l.set(true, true)
		time.Sleep(3 * time.Second)
		l.write(5)
		l.set(false, true)
		time.Sleep(2 * time.Second)
		wantAll(t, s, 5)
		l.set(false, false) // it is asked again whether it tells
		time.Sleep(2 * listenAgain)
		l.write(1)
		time.Sleep(settle)
		synctest.Wait()
		if len(s.ch) != 1 {
			t.Error("a store that tells again is not heard")
		}
	})
}

// TestManyWriters: whatever the nodes do at the same time, each watcher gets all
// events, once, in order.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 11), 1, 60).Draw(r, "steps")
		var wrong error // rapid must not end a test inside of the bubble
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l := &shared{mute: len(steps)%2 == 0}
			var feeds [2]*Feed
			var subs [2]*Subscription
			for i := range feeds {
				feeds[i], subs[i] = join(ctx, l, time.Second)
			}
			var late [2][][]*messages.Event // committed, and not published yet
			for _, step := range steps {
				node := step % 2
				switch step / 2 {
				case 0, 1:
					late[node] = append(late[node], l.write(1+step))
				case 2, 3:
					if len(late[node]) > 0 {
						feeds[node].Publish(late[node][0])
						late[node] = late[node][1:]
					}
				case 4:
					time.Sleep(settle / 3)
				default:
					synctest.Wait()
				}
			}
			time.Sleep(3 * time.Second)
			for i := range subs {
				for _, batch := range late[i] {
					feeds[i].Publish(batch)
				}
				wrong = errors.Join(wrong, all(subs[i], len(l.entries)))
			}
		})
		if wrong != nil {
			r.Fatal(wrong)
		}
	})
}
