package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Topic is what a notice tells of.
type Topic string

// EventsTopic carries the seq of the newest event with every commit that has
// events; KeysTopic is for whoever revokes a key.
const (
	EventsTopic Topic = "events"
	KeysTopic   Topic = "keys"
)

// channel is the name of a topic's channel: schemas of one database are apart.
func (db *DB) channel(t Topic) string { return "dash_" + db.cfg.Schema + "_" + string(t) }

// Notify tells the listeners of a topic a number.
func (db *DB) Notify(ctx context.Context, t Topic, n int64) error {
	if _, err := db.pool.Exec(ctx, `SELECT pg_notify($1, $2)`, db.channel(t), strconv.FormatInt(n, 10)); err != nil {
		return readError(ctx, "notify", err)
	}
	return nil
}

// listenAgain bounds the pause between two attempts to connect.
const listenAgain = time.Second

// Listen returns a channel on which the newest number of a topic arrives;
// numbers that nobody took in time are replaced by newer ones. Whenever the
// connection was made, also again, -1 comes: something may have been missed, so
// read. The channel is closed, and its goroutine over, soon after ctx ends.
func (db *DB) Listen(ctx context.Context, t Topic) <-chan int64 {
	out := make(chan int64, 1)
	go func() {
		defer close(out)
		for ctx.Err() == nil {
			err := db.listen(ctx, t, out)
			if ctx.Err() != nil {
				return
			}
			db.cfg.Logger.Warn("listening to the database was cut", slog.String("topic", string(t)), slog.Any("err", err))
			select {
			case <-time.After(listenAgain):
			case <-ctx.Done():
			}
		}
	}()
	return out
}

func (db *DB) listen(ctx context.Context, t Topic, out chan int64) error {
	cc, err := db.cfg.connConfig(nil)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // it is given up, whatever the server says
	}()
	if _, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{db.channel(t)}.Sanitize()); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	offer(out, -1)
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		if v, err := strconv.ParseInt(n.Payload, 10, 64); err == nil {
			offer(out, v)
		}
	}
}

// offer replaces what is still there; only one goroutine sends.
func offer(out chan int64, v int64) {
	select {
	case out <- v:
		return
	default:
	}
	select {
	case old := <-out:
		if old == -1 { // the reason to read is not lost
			v = -1
		}
	default:
	}
	out <- v
}
