package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dash-fleet/dash/messages"
)

const (
	// fanoutPause is waited between two messages: they hold the newest event's
	// number, so that one speaks for all before it.
	fanoutPause = 20 * time.Millisecond
	// fanoutSilence is how long a subscription may say nothing until it is asked
	// whether it is alive, and has as long to answer.
	fanoutSilence = 3 * time.Second
)

// fanout tells nodes that stand by of events as soon as they are written. A
// message is only a reason to look into the event log: one that is lost, late
// or forged costs a look or a poll, never an event. It owns two goroutines at
// most, until stop.
type fanout struct {
	client           *goredis.Client
	channel          string
	timeout          time.Duration
	telling, hearing *outage

	newest atomic.Int64  // number of the newest event that this node has written
	poke   chan struct{} // there is a newer one
	run    sync.WaitGroup
	cancel context.CancelFunc
}

// startFanout begins to tell of events, if others can share the store. The
// channel is named after the store's first key: the name is the same on all
// nodes, random, and no secret.
func (a *App) startFanout(ctx context.Context) error {
	if a.helper == nil || !a.engine.Shared {
		return nil
	}
	keys, err := a.repos.Keys.List(ctx)
	if err != nil {
		return fmt.Errorf("list api keys: %w", err)
	}
	if len(keys) == 0 {
		return errors.New("the store has no API key, not even the first one")
	}
	f := &fanout{
		client: a.helper.client, channel: "dash-events:" + keys[0].ID, timeout: a.helper.timeout,
		telling: a.helper.telling, hearing: a.helper.hearing, poke: make(chan struct{}, 1),
	}
	ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	f.run.Go(func() { f.tell(ctx) })
	a.cleanup.add("fan-out", func(context.Context) error { f.cancel(); f.run.Wait(); return nil })
	a.helper.fanout = f
	return nil
}

// publish hands the events of a batch to this node's watchers, says in the log
// which tasks came to no good end, and tells other nodes that there are new
// ones. It never waits.
func (a *App) publish(events []*messages.Event) {
	a.feed.Publish(events)
	a.losses.Note(events)
	a.tracer.Note(events)
	if len(events) > 0 && a.helper != nil && a.helper.fanout != nil {
		a.helper.fanout.written(events[len(events)-1].Seq)
	}
}

func (f *fanout) written(seq int64) {
	f.newest.Store(seq)
	select {
	case f.poke <- struct{}{}:
	default: // it will see the newest
	}
}

// tell publishes the newest event's number. One that could not be published is
// tried again, so that the end of an outage is noticed.
func (f *fanout) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.poke:
		}
		for {
			pause := fanoutPause
			err := f.send(ctx)
			if ctx.Err() != nil {
				return
			}
			f.telling.note(err)
			if err != nil {
				pause = redisPause
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			if err == nil {
				break
			}
		}
	}
}

func (f *fanout) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if err := f.client.Publish(ctx, f.channel, f.newest.Load()).Err(); err != nil {
		return fmt.Errorf("publish to Redis: %w", err)
	}
	return nil
}

// listen returns a channel that gets a value when there may be new events,
// until ctx ends. A nil fanout returns nil.
func (f *fanout) listen(ctx context.Context) <-chan struct{} {
	if f == nil {
		return nil
	}
	heard := make(chan struct{}, 1)
	f.run.Go(func() {
		defer f.hearing.over()
		for {
			err := f.hear(ctx, heard)
			if ctx.Err() != nil {
				return
			}
			f.hearing.note(err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(redisPause):
			}
		}
	})
	return heard
}

// hear is one subscription, until it breaks or ctx ends.
func (f *fanout) hear(ctx context.Context, heard chan<- struct{}) error {
	sub := f.client.Subscribe(ctx, f.channel) // what goes wrong here is seen below
	defer sub.Close()                         //nolint:errcheck // nothing was written that could be lost
	defer context.AfterFunc(ctx, func() {
		_ = sub.Close() // ends the read below
	})()
	for asked := false; ; {
		m, err := sub.ReceiveTimeout(ctx, fanoutSilence)
		var silence net.Error
		if errors.As(err, &silence) && silence.Timeout() && !asked {
			asked, err = true, sub.Ping(ctx)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("listen to Redis: %w", err)
		}
		asked = false
		if _, pong := m.(*goredis.Pong); pong {
			continue
		}
		f.hearing.note(nil)
		select { // also at the beginning: something may have been missed
		case heard <- struct{}{}:
		default:
		}
	}
}
