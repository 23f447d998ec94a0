package postgres

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dash-fleet/dash/persistence"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB is an open store. Its methods are safe for concurrent use.
type DB struct {
	cfg Config
	// pool serves reads and the repositories.
	pool *pgxpool.Pool
	// leases has connections of its own: a renewal never waits behind a commit
	// or a long read.
	leases  *pgxpool.Pool
	commits *pgxpool.Pool
	// keys is for what every request depends on: whether its key still counts.
	keys    *pgxpool.Pool
	metrics *metrics
	slots   *slots
	seqs    seqs
	// wary counts the batches that still look before they write.
	wary atomic.Int32
	// unfenced checks the fences before a batch instead of in it; only the test
	// that proves this wrong sets it.
	unfenced bool
	durable  durable
	full     fullness
	watching sync.WaitGroup
	unwatch  context.CancelFunc
	closing  sync.Once
}

var _ persistence.Store = (*DB)(nil)

// Open connects, brings the schema up to date and returns the store.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := ensureSchema(ctx, cfg); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db := &DB{cfg: cfg}
	if err := db.open(ctx); err != nil {
		db.shut()
		return nil, fmt.Errorf("open store: %w", err)
	}
	return db, nil
}

func (db *DB) open(ctx context.Context) (err error) {
	c := &db.cfg
	if db.pool, err = c.pool(ctx, c.Readers, 10*time.Second, map[string]string{"jit": "off"}, nil); err != nil {
		return err
	}
	if db.leases, err = c.pool(ctx, 2, c.StatementTimeout, nil, nil); err != nil {
		return err
	}
	if db.keys, err = c.pool(ctx, 2, c.StatementTimeout, nil, nil); err != nil {
		return err
	}
	if db.commits, err = c.pool(ctx, c.Committers, c.StatementTimeout, commitParams, prepareCommit); err != nil {
		return err
	}
	if err := db.pool.Ping(ctx); err != nil {
		return readError(ctx, "ping", err)
	}
	if err := db.look(ctx); err != nil {
		return err
	}
	if err := db.refusesWrites(); err != nil {
		return err
	}
	db.metrics = newMetrics(c.Registerer)
	db.slots = newSlots(c.Committers)
	for _, s := range db.slots.free {
		if err := db.register(ctx, s); err != nil {
			return err
		}
	}
	watch, stop := context.WithCancel(context.Background())
	db.unwatch = stop
	db.watching.Go(func() { db.watch(watch) })
	return nil
}

// Store returns the fenced half of the store.
func (db *DB) Store() persistence.Store { return db }

// Ping proves that the store can take a write now: it commits a batch without ops.
func (db *DB) Ping(ctx context.Context) error {
	_, err := db.Commit(ctx, nil)
	return err
}

// Close ends all connections, waiting for what runs on them. It may be called twice.
func (db *DB) Close() error {
	db.shut()
	return nil
}

func (db *DB) shut() {
	db.closing.Do(func() {
		if db.unwatch != nil {
			db.unwatch()
			db.watching.Wait()
		}
		for _, p := range []*pgxpool.Pool{db.commits, db.leases, db.keys, db.pool} {
			if p != nil {
				p.Close()
			}
		}
		if db.metrics != nil {
			db.metrics.Unregister()
		}
	})
}
