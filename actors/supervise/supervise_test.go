package supervise

import (
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"pgregory.net/rapid"
)

func TestDelayDoublesUpToItsLimit(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]time.Duration{1: 500, 2: 1000, 3: 2000, 7: 30000, 50: 30000} {
		if got := Delay(500, 30000, n, 0.5); got != want {
			t.Errorf("delay before restart %d = %d, want %d", n, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 1000).Draw(t, "n")
		d := Delay(time.Second, time.Minute, n, rapid.Float64Range(0, 0.999).Draw(t, "random"))
		if d < 800*time.Millisecond || d > 72*time.Second {
			t.Fatalf("delay %d = %s", n, d)
		}
	})
}

// TestDelayIsSpread by a fifth to each side, so that what failed together does
// not come back together.
func TestDelayIsSpread(t *testing.T) {
	t.Parallel()
	for random, want := range map[float64]time.Duration{0: 800, 0.25: 900, 0.75: 1100, 0.999999: 1199} {
		if got := Delay(1000, 30000, 1, random); got != want {
			t.Errorf("delay at random %v = %d, want %d", random, got, want)
		}
	}
	if got := Delay(1000, 30000, 9, 0.999999); got != 35999 {
		t.Errorf("the longest delay = %d, want a fifth above the limit", got)
	}
	// The strategy draws its own random numbers.
	var delays []time.Duration
	p := newParent(Config{Kind: "child", Initial: time.Second, Max: time.Second, Window: time.Second,
		Restarting: func(_ *actor.PID, _ any, _ int, after time.Duration) { delays = append(delays, after) }}, "a")
	run(t, p, func(system *actor.ActorSystem, pid *actor.PID) {
		for range 40 {
			system.Root.Send(pid, "a")
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
	})
	if len(delays) != 40 {
		t.Fatalf("%d restarts, want 40", len(delays))
	}
	if least, most := slices.Min(delays), slices.Max(delays); least > 950*time.Millisecond || most < 1050*time.Millisecond {
		t.Errorf("40 delays lie between %s and %s", least, most)
	}
}

// parent supervises children that fail when they are told to.
type parent struct {
	strategy *Strategy
	spawn    []string
	children map[string]*actor.PID
	seen     chan string
}

func (p *parent) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		for _, name := range p.spawn {
			props := actor.PropsFromFunc(func(c actor.Context) {
				switch c.Message().(type) {
				case *actor.Started:
					p.seen <- "started " + name
				case *actor.Stopped:
					p.seen <- "stopped " + name
				case string:
					panic("told to fail")
				}
			})
			pid, err := ctx.SpawnNamed(props, name)
			if err != nil {
				panic(err)
			}
			p.children[name] = pid
		}
	case string:
		ctx.Send(p.children[m], "fail")
	}
}

func (p *parent) HandleFailure(s *actor.ActorSystem, sup actor.Supervisor, who *actor.PID, rs *actor.RestartStatistics, reason, m any) {
	p.strategy.HandleFailure(s, sup, who, rs, reason, m)
}

func newParent(cfg Config, spawn ...string) *parent {
	cfg.Logger = slog.New(slog.DiscardHandler)
	return &parent{strategy: New(cfg), spawn: spawn, children: map[string]*actor.PID{}, seen: make(chan string, 100)}
}

func run(t *testing.T, p *parent, f func(system *actor.ActorSystem, pid *actor.PID)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		system := actor.NewActorSystem(actor.WithDeadLetterRequestLogging(false),
			actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
		pid := system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return p }))
		synctest.Wait()
		f(system, pid)
		system.Root.Stop(pid)
		synctest.Wait()
		system.Shutdown()
		time.Sleep(time.Minute) // lets the library's own timers end
	})
}

func drain(p *parent) (out []string) {
	for {
		select {
		case s := <-p.seen:
			out = append(out, s)
		default:
			return out
		}
	}
}

func count(list []string, want string) (n int) {
	for _, s := range list {
		if s == want {
			n++
		}
	}
	return n
}

func TestRestartsWithDelayThenGivesUp(t *testing.T) {
	t.Parallel()
	gaveUp := make(chan string, 1)
	p := newParent(Config{Kind: "child", Initial: time.Second, Max: 8 * time.Second, Limit: 3, Window: time.Hour,
		GiveUp: func(who *actor.PID, _ any) { gaveUp <- who.Id }}, "a", "b")
	run(t, p, func(system *actor.ActorSystem, pid *actor.PID) {
		drain(p)
		for n := 1; n <= 3; n++ {
			system.Root.Send(pid, "a")
			synctest.Wait()
			if got := drain(p); len(got) != 0 {
				t.Fatalf("restart %d came without delay: %v", n, got)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := drain(p); count(got, "started a") != 1 || count(got, "started b") != 0 {
				t.Fatalf("after failure %d: %v", n, got)
			}
		}
		system.Root.Send(pid, "a")
		synctest.Wait()
		if got := drain(p); count(got, "stopped a") != 1 {
			t.Fatalf("after the last failure: %v", got)
		}
		if len(gaveUp) != 1 {
			t.Fatal("the parent was not told")
		}
		if n := len(p.strategy.failures); n != 0 {
			t.Errorf("failures of %d children are kept: one that is started again under that name would give up at once", n)
		}
	})
}

func TestOldFailuresAreForgotten(t *testing.T) {
	t.Parallel()
	p := newParent(Config{Kind: "child", Initial: time.Millisecond, Max: time.Millisecond, Limit: 2, Window: time.Minute,
		GiveUp: func(*actor.PID, any) { t.Error("gave up on failures that lie far apart") }}, "a")
	run(t, p, func(system *actor.ActorSystem, pid *actor.PID) {
		for range 10 {
			system.Root.Send(pid, "a")
			time.Sleep(40 * time.Second)
			synctest.Wait()
		}
	})
}
