package main

import (
	"context"
	"flag"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

// asynqOptions are what was searched for the best settings; zero is asynq's default.
type asynqOptions struct {
	url         string
	servers     int
	concurrency int
	check       time.Duration
	pool        int
}

func asynqFlags(f *flag.FlagSet) func(context.Context) (queue, error) {
	var o asynqOptions
	f.StringVar(&o.url, "redis-url", "", "Redis server")
	f.IntVar(&o.servers, "servers", 1, "servers (each fetches one task at a time) in this process")
	f.IntVar(&o.concurrency, "concurrency", 0, "Config.Concurrency; 0: the number of processors")
	f.DurationVar(&o.check, "check", 0, "Config.TaskCheckInterval; 0: 1 s")
	f.IntVar(&o.pool, "pool", 0, "connections; 0: ten per processor")
	return func(context.Context) (queue, error) { return openAsynq(o) }
}

type asynqQueue struct {
	o         asynqOptions
	redis     asynq.RedisClientOpt
	client    *asynq.Client
	inspector *asynq.Inspector
	servers   []*asynq.Server
	handled   atomic.Int64
}

func openAsynq(o asynqOptions) (*asynqQueue, error) {
	parsed, err := asynq.ParseRedisURI(o.url)
	if err != nil {
		return nil, fmt.Errorf("asynq: %w", err)
	}
	opt, ok := parsed.(asynq.RedisClientOpt)
	if !ok {
		return nil, fmt.Errorf("asynq: %T is no single server", parsed)
	}
	opt.PoolSize = o.pool
	return &asynqQueue{o: o, redis: opt, client: asynq.NewClient(opt), inspector: asynq.NewInspector(opt)}, nil
}

func (q *asynqQueue) enqueue(ctx context.Context, text string) error {
	_, err := q.client.EnqueueContext(ctx, asynq.NewTask("bench", []byte(text)))
	return err
}

func (q *asynqQueue) work(_ context.Context, handle func(string)) error {
	for range q.o.servers {
		s := asynq.NewServer(q.redis, asynq.Config{Concurrency: q.o.concurrency, TaskCheckInterval: q.o.check, LogLevel: asynq.ErrorLevel})
		err := s.Start(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
			handle(string(t.Payload()))
			q.handled.Add(1)
			return nil
		}))
		if err != nil {
			return fmt.Errorf("asynq: %w", err)
		}
		q.servers = append(q.servers, s)
	}
	return nil
}

// drained waits for the handlers and then for their acknowledgements in Redis.
func (q *asynqQueue) drained(ctx context.Context, n int) error {
	for {
		if q.handled.Load() >= int64(n) {
			info, err := q.inspector.GetQueueInfo("default")
			if err != nil || info.Pending+info.Active+info.Retry == 0 {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (q *asynqQueue) close(context.Context) error {
	for _, s := range q.servers {
		s.Shutdown()
	}
	if err := q.inspector.Close(); err != nil {
		return err
	}
	return q.client.Close()
}
