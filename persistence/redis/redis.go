package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/room"
	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// DefaultPrefix is in front of all keys. The braces put them into one slot.
const DefaultPrefix = "{dash}:"

// Config says which server to use. URL is required; all else has defaults.
type Config struct {
	// URL is redis://[user:password@]host:port[/db], or rediss:// for TLS.
	URL string
	// Prefix is in front of all keys; empty: DefaultPrefix.
	Prefix string
	// AcceptLoss is the window of writes that may be lost with the server's
	// present settings, accepted by name. 0: Open refuses a server that may
	// lose anything it acknowledged.
	AcceptLoss time.Duration
	// History keeps accepted and finished tasks elsewhere, so that a loss can
	// be noticed by a new process too and be repaired. nil: neither.
	History History
	// DrainEvery is the pause between two looks at the outbox; 0: 200 ms.
	DrainEvery time.Duration
	// WatchEvery is the pause between two looks at the server's settings; 0: 10 s.
	WatchEvery time.Duration
	// Readers is the number of connections for reads; 0: 8.
	Readers int
	// Logger and Registerer may be nil.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() (Config, error) {
	if c.URL == "" {
		return c, errors.New("open redis store: no URL given; set --redis-url redis://host:6379")
	}
	if c.AcceptLoss < 0 {
		return c, fmt.Errorf("open redis store: the accepted loss %v is negative; write for example --redis-accept-loss=2s", c.AcceptLoss)
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.DrainEvery <= 0 {
		c.DrainEvery = 200 * time.Millisecond
	}
	if c.WatchEvery <= 0 {
		c.WatchEvery = 10 * time.Second
	}
	if c.Readers <= 0 {
		c.Readers = 8
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// DB is an open store. Its methods are safe for concurrent use.
type DB struct {
	cfg     Config
	scripts scripts
	// Writes, reads and leases have connections of their own: a renewal never
	// waits behind a batch or a page.
	writer, reader, leases *goredis.Client
	w                      *writer
	lost                   lossState
	durable                durableState
	budget                 time.Duration // of a batch with all its repetitions
	recent                 *recent
	metrics                *metrics
	room                   *room.Watch

	run   string        // of the server, when its append-only file was last rewritten; the monitor's
	poke  chan struct{} // a connection was made: look at the server again
	stop  context.CancelFunc
	tasks sync.WaitGroup // monitor, drainer
	close sync.Once
	ended error
}

var _ persistence.Store = (*DB)(nil)

// Open connects, checks that the server keeps what it acknowledges, and finds
// out whether it still has what it had. A server that may lose writes is
// refused with a *DurabilityError unless the loss is accepted. A store that has
// lost data is opened: Lost tells, and all writes are refused until Recover.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	db := &DB{cfg: cfg, budget: commitBudget, scripts: newScripts(), poke: make(chan struct{}, 1), w: newWriter(messages.NewID()), recent: newRecent(cfg.History != nil)}
	if err := db.connect(); err != nil {
		return nil, fmt.Errorf("open redis store: %w", err)
	}
	if err := db.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open redis store: %w", err), db.Close())
	}
	return db, nil
}

func (db *DB) connect() error {
	// The library prints by itself what it also returns as an error; the switch
	// is one for the whole process.
	logging.Disable()
	for _, c := range []struct {
		to   **goredis.Client
		size int
	}{{&db.writer, 2}, {&db.reader, db.cfg.Readers}, {&db.leases, 2}} {
		o, err := options(&db.cfg, c.size, db.nudge)
		if err != nil {
			return err
		}
		*c.to = goredis.NewClient(o)
	}
	return nil
}

// nudge makes the monitor look at once. It never blocks.
func (db *DB) nudge() {
	select {
	case db.poke <- struct{}{}:
	default:
	}
}

func (db *DB) open(ctx context.Context) error {
	octx, cancel := context.WithTimeout(ctx, 2*readLimit)
	defer cancel()
	state, err := db.readDurability(octx)
	if err != nil {
		return err
	}
	if err := state.check(db.cfg.AcceptLoss); err != nil {
		return err
	}
	db.metrics = newMetrics(db)
	db.recent.overflow = db.metrics.dropped
	db.durable.set(state, db.cfg.AcceptLoss)
	db.durable.tell(octx, db.cfg.Logger)
	if err := db.begin(octx, state.run); err != nil {
		return err
	}
	db.room = room.Start(ctx, room.Every, db.probeRoom, db.cfg.Logger, db.cfg.Registerer)
	db.nudge() // the monitor looks at once
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	db.stop = stop
	db.tasks.Go(func() { db.monitor(run) })
	if db.cfg.History != nil {
		db.tasks.Go(func() { db.drain(run) })
	}
	return nil
}

// begin reads or makes the dataset's identity and compares it with the history's mark.
func (db *DB) begin(ctx context.Context, run string) error {
	mark, err := db.readMark(ctx)
	if err != nil {
		return err
	}
	fresh := ""
	if mark.Dataset == "" {
		fresh = messages.NewID()
	}
	res, err := db.eval(ctx, db.writer, db.scripts.init, fresh, db.w.id, messages.Shards, run)
	if err != nil {
		return unavailable(ctx, "read the store's identity", err)
	}
	dataset, batch, shards, paired := text(res[0]), integer(res[1]), integer(res[3]), integer(res[5]) == 1
	db.run = text(res[4])
	if strings.HasPrefix(dataset, restoring) {
		return &BusyError{"the store is being restored, or a restore was interrupted", next.WaitOrRestoreAgain}
	}
	if dataset != "" && shards != messages.Shards {
		return fmt.Errorf("the store has %d shards, this Dash works with %d; use the version that made it", shards, messages.Shards)
	}
	db.w.dataset.Store(&dataset)
	raise(&db.w.least, batch)
	raise(&db.w.seq, integer(res[2]))
	switch {
	case mark.Dataset == "":
		return db.pair(ctx, dataset, batch, paired)
	case mark.Dataset == dataset && !paired: // a recovery makes the store anew, and a crash may come between the two
		if err := db.setPaired(ctx); err != nil {
			return err
		}
	case dataset == "":
		db.loseFrom(mark, dataset, batch, "the server is empty, but the task history knows a store on it")
	case dataset != mark.Dataset:
		db.loseFrom(mark, dataset, batch, "the server holds another store than the one of the task history")
	}
	if dataset != "" && dataset == mark.Dataset && batch < mark.Batch {
		db.loseFrom(mark, dataset, batch, "the server's newest batch is older than one in the task history")
	}
	return nil
}

func (db *DB) readMark(ctx context.Context) (Mark, error) {
	if db.cfg.History == nil {
		return Mark{}, nil
	}
	mark, err := db.cfg.History.Mark(ctx)
	if err != nil {
		return mark, fmt.Errorf("read the mark of the task history: %w", err)
	}
	return mark, nil
}

// pair has the store and a history that knows none remember each other. A store
// that has a history elsewhere is refused.
func (db *DB) pair(ctx context.Context, dataset string, batch int64, paired bool) error {
	if db.cfg.History == nil {
		return nil
	}
	if !paired {
		// Batch 0 promises nothing: what the store holds may still be in its outbox.
		if err := db.cfg.History.Save(ctx, Mark{Dataset: dataset, At: time.Now().UTC()}, nil); err != nil {
			return fmt.Errorf("begin the task history: %w", err)
		}
	}
	mark, err := db.readMark(ctx) // another process may have made it just now
	switch {
	case err != nil:
		return err
	case mark.Dataset == "":
		return &PairError{Dataset: dataset, Batch: batch}
	case mark.Dataset != dataset:
		db.loseFrom(mark, dataset, batch, "the server holds another store than the one of the task history")
		return nil
	}
	return db.setPaired(ctx)
}

func (db *DB) setPaired(ctx context.Context) error {
	return unavailable(ctx, "pair the store with its task history", db.writer.HSet(ctx, db.key("meta"), "paired", 1).Err())
}

// Store returns the fenced half of the store.
func (db *DB) Store() persistence.Store { return db }

// Close ends the goroutines and closes all connections. It may be called twice.
func (db *DB) Close() error {
	db.close.Do(func() {
		if db.stop != nil {
			db.stop()
		}
		db.tasks.Wait()
		if db.room != nil {
			db.room.Stop()
		}
		if db.metrics != nil {
			db.metrics.Unregister()
		}
		for _, c := range []*goredis.Client{db.writer, db.reader, db.leases} {
			if c != nil {
				db.ended = errors.Join(db.ended, c.Close())
			}
		}
	})
	return db.ended
}

// Ping proves that the store can take a write now: it commits a batch without ops.
func (db *DB) Ping(ctx context.Context) error {
	_, err := db.Commit(ctx, nil)
	return err
}
