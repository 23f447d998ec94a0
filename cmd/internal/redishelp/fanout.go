package redishelp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
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

// StartFanout begins to tell the nodes that share a store of events, until
// StopFanout. The fleet's name is the same on all its nodes, random, and no secret.
func (h *Helper) StartFanout(fleet string) {
	f := &fanout{
		client: h.client, channel: "dash-events:" + fleet, timeout: h.timeout,
		telling: h.telling, hearing: h.hearing, poke: make(chan struct{}, 1),
	}
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(context.Background())
	f.run.Go(func() { f.tell(ctx) })
	h.fanout = f
}

// StopFanout ends what StartFanout and Listen began.
func (h *Helper) StopFanout(context.Context) error {
	h.fanout.cancel()
	h.fanout.run.Wait()
	return nil
}

// Written tells other nodes of events up to this number. It never waits.
func (h *Helper) Written(seq int64) {
	if h != nil && h.fanout != nil {
		h.fanout.written(seq)
	}
}

// Listen returns a channel that gets a value when there may be new events,
// until ctx ends. It is nil where nobody tells.
func (h *Helper) Listen(ctx context.Context) <-chan struct{} {
	if h == nil || h.fanout == nil {
		return nil
	}
	return h.fanout.listen(ctx)
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
			rest := fanoutPause
			err := f.send(ctx)
			if ctx.Err() != nil {
				return
			}
			f.telling.note(err)
			if err != nil {
				rest = pause
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(rest):
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

func (f *fanout) listen(ctx context.Context) <-chan struct{} {
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
			case <-time.After(pause):
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
