package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverOptions are what was searched for the best settings; zero is River's default.
type riverOptions struct {
	url      string
	workers  int
	cooldown time.Duration
	poll     time.Duration
	conns    int
}

func riverFlags(f *flag.FlagSet) func(context.Context) (queue, error) {
	var o riverOptions
	f.StringVar(&o.url, "postgres-url", "", "database")
	f.IntVar(&o.workers, "workers", 100, "QueueConfig.MaxWorkers; River has no default, its documentation uses 100")
	f.DurationVar(&o.cooldown, "cooldown", 0, "Config.FetchCooldown; 0: 100 ms")
	f.DurationVar(&o.poll, "poll", 0, "Config.FetchPollInterval; 0: 1 s")
	f.IntVar(&o.conns, "conns", 0, "connections of pgxpool; 0: its default, at least 4")
	return func(ctx context.Context) (queue, error) { return openRiver(ctx, o) }
}

type benchArgs struct {
	Text string `json:"text"`
}

// Kind names the job.
func (benchArgs) Kind() string { return "bench" }

type benchWorker struct {
	river.WorkerDefaults[benchArgs]
	q *riverQueue
}

// Work is the whole work of a job.
func (w *benchWorker) Work(_ context.Context, job *river.Job[benchArgs]) error {
	w.q.handle(job.Args.Text)
	return nil
}

type riverQueue struct {
	handle  func(string)
	pool    *pgxpool.Pool
	client  *river.Client[pgx.Tx]
	started bool
	events  <-chan *river.Event
	cancel  func()
	ended   atomic.Int64
	counted chan struct{}
}

func openRiver(ctx context.Context, o riverOptions) (*riverQueue, error) {
	cfg, err := pgxpool.ParseConfig(o.url)
	if err != nil {
		return nil, fmt.Errorf("river: %w", err)
	}
	if o.conns > 0 {
		cfg.MaxConns = int32(o.conns)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("river: %w", err)
	}
	q := &riverQueue{pool: pool, counted: make(chan struct{})}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return nil, fmt.Errorf("river: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, fmt.Errorf("river: migrate: %w", err)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &benchWorker{q: q})
	q.client, err = river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: o.workers}},
		Workers: workers, FetchCooldown: o.cooldown, FetchPollInterval: o.poll,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return nil, fmt.Errorf("river: %w", err)
	}
	return q, nil
}

func (q *riverQueue) enqueue(ctx context.Context, text string) error {
	_, err := q.client.Insert(ctx, benchArgs{Text: text}, nil)
	return err
}

// work counts completions: River tells of them after it has committed them.
func (q *riverQueue) work(ctx context.Context, handle func(string)) error {
	q.handle = handle
	q.events, q.cancel = q.client.SubscribeConfig(&river.SubscribeConfig{Kinds: []river.EventKind{river.EventKindJobCompleted}, ChanSize: 1 << 20})
	go func() {
		defer close(q.counted)
		for range q.events {
			q.ended.Add(1)
		}
	}()
	if err := q.client.Start(ctx); err != nil {
		return fmt.Errorf("river: %w", err)
	}
	q.started = true
	return nil
}

func (q *riverQueue) drained(ctx context.Context, n int) error {
	for q.ended.Load() < int64(n) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	var open int
	if err := q.pool.QueryRow(ctx, "SELECT count(*) FROM river_job WHERE state <> 'completed'").Scan(&open); err != nil {
		return fmt.Errorf("river: %w", err)
	}
	if open > 0 {
		return fmt.Errorf("river: %d jobs are not completed after all were reported", open)
	}
	return nil
}

func (q *riverQueue) close(ctx context.Context) error {
	var err error
	if q.started {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err = q.client.StopAndCancel(ctx); errors.Is(err, context.Canceled) {
			err = nil
		}
		q.cancel()
		<-q.counted
	}
	q.pool.Close()
	return err
}
