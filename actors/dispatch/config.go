package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// Reader is what a pool's owner reads of the store; it writes through the committer.
type Reader interface {
	Task(ctx context.Context, tenant, id string) (messages.Task, error)
	Tasks(ctx context.Context, f persistence.TaskFilter, cursor string, limit int) ([]messages.Task, string, error)
	OpenTasks(ctx context.Context, pool, after string, limit int) (tasks []messages.Task, more bool, err error)
	MaxSeq(ctx context.Context, pool string) (int64, error)
	Session(ctx context.Context, tenant, id string) (messages.Session, error)
	Sessions(ctx context.Context, tenant, pool, after string, limit int) ([]messages.Session, error)
	Transcript(ctx context.Context, tenant, session, before string, limit int) (turns []messages.Task, older bool, err error)
}

// Config of one pool's owner. All fields are needed, except Metrics, Room and
// Dispatcher.
type Config struct {
	Pool      messages.Pool
	Fence     messages.Fence // the shard that P owns
	Store     Reader
	Committer *actor.PID // an actor of package commit
	Logger    *slog.Logger
	Metrics   *Metrics // shared by all pools; nil: not registered anywhere
	// Room tells what the store has left for new tasks; it must not wait. nil:
	// there is always room.
	Room func() persistence.Room
	// Dispatcher runs the actors' turns; nil: protoactor's own.
	Dispatcher actor.Dispatcher
}

// Fenced tells the parent of a pool's root (P to its shard) that another owner
// took the shard: the pool has stopped itself and wrote nothing since.
type Fenced struct{ Pool string }

// Sources of the numbers: DESIGN.md beside this file.
const (
	tickEvery     = time.Second
	sweepEvery    = 5 * time.Second
	readTimeout   = 10 * time.Second
	loadPage      = 2000
	sweepPages    = 4
	maxStash      = 65536 // messages kept while the pool reads itself back
	maxLater      = 16    // commands that wait for one task's operation
	maxReads      = 32
	repeatEvery   = time.Second
	unlistedAfter = 3 * time.Second
	verifyPerTurn = 200
	moveWithin    = 10 * time.Minute
	storeRetry    = 500 * time.Millisecond
	refusedRetry  = 5 * time.Minute // most between two tries of a step that the store can never take
)

func (c *Config) validate() error {
	switch {
	case c.Pool.ID == "":
		return errors.New("dispatch: config has no pool id")
	case c.Store == nil || c.Committer == nil || c.Logger == nil:
		return errors.New("dispatch: config needs store, committer and logger")
	}
	return nil
}

// shared is what the actors of one incarnation of a pool have in common.
// Everything in it is immutable or atomic.
type shared struct {
	Config
	ctx  context.Context // ends with the incarnation
	root *actor.PID
	send *actor.RootContext
	seq  *atomic.Int64 // greatest sequence number given
	// fences is the pool's alone.
	fences []messages.Fence
	// loads are what waits, by class.
	loads *[numClasses]load
	// reads bounds how many reads of the store are under way; the others wait.
	reads chan struct{}
}

// load is what waits in one class. The class's dispatcher reserves a place for
// a task on its way in, the arbiter actor frees it.
type load struct{ count, bytes, left atomic.Int64 }

func (l *load) add(t *messages.Task, n int64) {
	l.count.Add(n)
	l.bytes.Add(n * weight(t))
}

// props are the props of one of the pool's actors.
func (c *Config) props(produce actor.Producer) *actor.Props {
	if c.Dispatcher == nil {
		return actor.PropsFromProducer(produce)
	}
	return actor.PropsFromProducer(produce, actor.WithDispatcher(c.Dispatcher))
}

// read runs f on its own goroutine with a deadline and sends what it returns
// to the actor. The goroutine ends with the incarnation's context.
func (s *shared) read(to *actor.PID, f func(ctx context.Context) any) {
	go func() {
		select {
		case s.reads <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		defer func() { <-s.reads }()
		ctx, cancel := context.WithTimeout(s.ctx, readTimeout)
		defer cancel()
		s.send.Send(to, f(ctx))
	}()
}

func (s *shared) after(d time.Duration, to *actor.PID, m any) *time.Timer {
	return time.AfterFunc(d, func() {
		if s.ctx.Err() == nil {
			s.send.Send(to, m)
		}
	})
}

func limitsOf(p *messages.Pool) Limits {
	return Limits{MaxRunning: p.MaxConcurrency, Reserved: p.Reserved, Aging: time.Duration(p.AgingSeconds) * time.Second}
}
