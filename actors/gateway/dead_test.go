package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// hanging is a dial that ends with its context only.
func hanging(ctx context.Context, _ openclaw.Config, _ openclaw.Handler) (gateway.Link, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func refusing(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
	return nil, &openclaw.RefusedError{Reason: openclaw.ReasonToken, Message: "wrong token", NextStep: "set the right one", Permanent: true}
}

// TestDrainOfADeadGatewayEnds: there is nothing to wait for, whatever state the
// gateway is in, and it stays drained until it is resumed.
func TestDrainOfADeadGatewayEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state messages.GatewayState
		dial  gateway.DialFunc
	}{
		{messages.GatewayUnreachable, dialer()},
		{messages.GatewayConnecting, hanging},
		{messages.GatewayQuarantined, refusing},
	} {
		t.Run(c.state.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *gateway.Config) { cfg.Dial = c.dial })
			r.until(c.state)
			r.system.Root.Send(r.pid, gateway.Drain{})
			r.until(messages.GatewayDrained)
			<-time.After(60 * time.Millisecond) // three times the longest pause between two tries
			if s := r.inspect(); s.Status.State != messages.GatewayDrained {
				t.Errorf("it did not stay drained: %s", s.Status.State)
			}
			r.system.Root.Send(r.pid, gateway.Resume{})
			r.until(c.state)
		})
	}
}

// TestDrainOfALostGatewayWaitsForItsRuns: what a lost gateway holds is settled
// first, by whoever may; then the drain ends.
func TestDrainOfALostGatewayWaitsForItsRuns(t *testing.T) {
	t.Parallel()
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("held=%t", held), func(t *testing.T) {
			t.Parallel()
			drainOfALost(t, held)
		})
	}
}

// drainOfALost: a task that its pool's owner holds takes no slot, so nobody
// waits for what becomes of it.
func drainOfALost(t *testing.T, held bool) {
	l := newLink("b1")
	l.onAgent = func(r openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: r.RunID})
	}
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialer(l) })
	await(r, "a window", open)
	task := r.claim("t-1", "")
	await(r, "the claim", func(d messages.Demand) bool { return len(d.Running) == 1 })
	l.Close()
	r.until(messages.GatewayUnreachable)
	r.system.Root.Send(r.pid, gateway.Drain{})
	if s := r.inspect(); s.Status.State != messages.GatewayUnreachable {
		t.Fatalf("it is %s with a task that nobody has settled", s.Status.State)
	}
	r.system.Root.Send(r.pid, messages.Withdraw{ClaimRef: messages.ClaimRef{Task: task.ID, Claim: task.Claim}, Held: held})
	r.until(messages.GatewayDrained)
}

// TestGatewayElsewhere: a gateway whose home is another node is neither started
// nor dialled; it says why, counts as away, and its claims stay where they are.
func TestGatewayElsewhere(t *testing.T) {
	t.Parallel()
	at := "its home is node a"
	var mu sync.Mutex
	dials := 0
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = func(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
			mu.Lock()
			defer mu.Unlock()
			dials++
			return newLink("b2"), nil
		}
		c.Elsewhere = func(messages.Gateway) (string, string) {
			mu.Lock()
			defer mu.Unlock()
			return at, "start node a"
		}
	})
	d := await(r, "the word that it is away", func(d messages.Demand) bool { return !d.AwaySince.IsZero() })
	if d.Window != 0 {
		t.Errorf("window %d", d.Window)
	}
	s := r.until(messages.GatewayUnreachable)
	if s.Status.Reason != at || s.Status.NextStep != "start node a" {
		t.Errorf("reason %q, next step %q", s.Status.Reason, s.Status.NextStep)
	}
	task := r.claim("t-1", "") // P's claim and the take-over may cross
	back := await(r, "the claim back", func(d messages.Demand) bool { return len(d.Returned) == 1 })
	if back.Returned[0].Task != task.ID {
		t.Errorf("returned %v", back.Returned)
	}
	for _, m := range []any{gateway.Restart{}, gateway.Resume{}, gateway.Configure{Gateway: messages.Gateway{ID: "gw", Tenant: "default", Pool: "default", URL: "ws://127.0.0.1:2/"}}} {
		r.system.Root.Send(r.pid, m)
		r.until(messages.GatewayUnreachable)
	}
	r.system.Root.Send(r.pid, gateway.Drain{})
	r.until(messages.GatewayDrained)
	r.system.Root.Send(r.pid, gateway.Resume{})
	r.until(messages.GatewayUnreachable)
	mu.Lock()
	if dials != 0 {
		t.Errorf("dialled %d times", dials)
	}
	at = ""
	mu.Unlock()
	r.system.Root.Send(r.pid, gateway.Restart{})
	await(r, "a window", open)
}

// TestLossIsSaidOnce: SINCE is the moment of the loss, however many tries
// follow, and the log has one line for the loss and one for the return.
func TestLossIsSaidOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log bytes.Buffer
	tries := 0
	first, last := newLink("b1"), newLink("b1")
	r := newRig(t, func(c *gateway.Config) {
		c.Logger = slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(b)
		}), nil))
		c.Dial = func(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
			mu.Lock()
			defer mu.Unlock()
			if tries++; tries == 1 {
				return first, nil
			} else if tries < 12 {
				return nil, &openclaw.RefusedError{Reason: openclaw.ReasonUnreachable, Message: "nothing listens"}
			}
			return last, nil
		}
	})
	await(r, "a window", open)
	first.Close()
	lost := r.until(messages.GatewayUnreachable).Status.Since
	for limit := time.Now().Add(10 * time.Second); ; <-time.After(2 * time.Millisecond) {
		mu.Lock()
		n := tries
		mu.Unlock()
		if n >= 10 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%d tries", n)
		}
	}
	if s := r.inspect(); seekingState(s.Status.State) && !s.Status.Since.Equal(lost) {
		t.Errorf("since %v, lost %v", s.Status.Since, lost)
	}
	await(r, "a window", open)
	mu.Lock()
	defer mu.Unlock()
	lines := strings.Split(log.String(), "\n")
	count := func(words ...string) (n int) {
	next:
		for _, l := range lines {
			for _, w := range words {
				if !strings.Contains(l, w) {
					continue next
				}
			}
			n++
		}
		return n
	}
	if n := count("to=unreachable"); n != 1 || count("level=WARN", "to=unreachable") != 1 {
		t.Errorf("%d lines tell of the loss, want one warning:\n%s", n, log.String())
	}
	if n := count("to=connecting"); n != 1 {
		t.Errorf("%d lines tell of connecting, want that of the first time:\n%s", n, log.String())
	}
	if n := count("from=unreachable", "to=ready"); n != 1 {
		t.Errorf("%d lines tell of the return:\n%s", n, log.String())
	}
}

func seekingState(s messages.GatewayState) bool {
	return s == messages.GatewayUnreachable || s == messages.GatewayConnecting || s == messages.GatewayStarting
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
