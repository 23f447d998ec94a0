package postgres

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// eventsChannel is where each batch with events tells its newest number; schemas of
// one database are apart.
func (db *DB) eventsChannel() string { return "dash_" + db.cfg.Schema + "_events" }

// listenPause keeps a node from waking up for each batch that it wrote itself.
const listenPause = 10 * time.Millisecond

// WatchEvents listens on a connection of its own.
func (db *DB) WatchEvents(ctx context.Context, grown func(newest int64)) error {
	return db.listen(ctx, db.eventsChannel(), func() { grown(math.MaxInt64) }, func(payload string) {
		if n, err := strconv.ParseInt(payload, 10, 64); err == nil {
			grown(n)
		}
	})
}

// listen hands on what is told on a channel, from ready on, until ctx ends or the
// connection breaks.
func (db *DB) listen(ctx context.Context, channel string, ready func(), heard func(payload string)) (err error) {
	cc, err := db.cfg.connConfig(nil)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return readError(ctx, "connect to listen to "+channel, err)
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(bye) // it may be broken already; err says why
	}()
	if _, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{channel}.Sanitize()); err != nil {
		return readError(ctx, "listen to "+channel, err)
	}
	ready()
	for {
		began := time.Now()
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return readError(ctx, "wait for "+channel, err)
		}
		heard(n.Payload)
		if time.Since(began) > listenPause/100 { // nothing was there: let those that follow come together
			select {
			case <-time.After(listenPause):
			case <-ctx.Done():
			}
		}
	}
}
