package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	goredis "github.com/redis/go-redis/v9"
)

// piece is one entry of the log: the events of a batch, or of a part of it.
type piece struct {
	first, last int64
	at          int64 // microseconds, the server's clock
	entries     string
}

func decodePiece(x goredis.XMessage) (p piece, err error) {
	id, _, _ := strings.Cut(x.ID, "-")
	if p.last, err = strconv.ParseInt(id, 10, 64); err != nil {
		return p, fmt.Errorf("log entry %s: %w", x.ID, err)
	}
	n, err := strconv.ParseInt(text(x.Values["n"]), 10, 64)
	if err != nil {
		return p, fmt.Errorf("log entry %s: %w", x.ID, err)
	}
	if p.at, err = strconv.ParseInt(text(x.Values["t"]), 10, 64); err != nil {
		return p, fmt.Errorf("log entry %s: %w", x.ID, err)
	}
	p.first, p.entries = p.last-n+1, text(x.Values["e"])
	return p, nil
}

// Events reads the log from the entry that holds since+1 on. The oldest entry
// is read in the same transaction, so a sweep in between cannot hide a gap.
func (db *DB) Events(ctx context.Context, since int64, limit int) (events []*messages.Event, oldest int64, err error) {
	limit = page(limit)
	from := strconv.FormatInt(max(since, 0)+1, 10) + "-0"
	for len(events) < limit {
		var head, list *goredis.XMessageSliceCmd
		_, err := db.reader.TxPipelined(ctx, func(p goredis.Pipeliner) error {
			head = p.XRangeN(ctx, db.key("log"), "-", "+", 1)
			// Entries may be large: few at a time.
			list = p.XRangeN(ctx, db.key("log"), from, "+", int64(min(limit-len(events), 16)))
			return nil
		})
		if err != nil {
			return nil, 0, unavailable(ctx, "read events", err)
		}
		for _, x := range head.Val() {
			p, err := decodePiece(x)
			if err != nil {
				return nil, 0, err
			}
			if oldest != 0 && p.first > oldest {
				return events, oldest, nil // swept meanwhile: the next call tells the gap
			}
			oldest = p.first
		}
		if len(list.Val()) == 0 {
			break
		}
		for _, x := range list.Val() {
			p, err := decodePiece(x)
			if err != nil {
				return nil, 0, err
			}
			if events, err = rows.ReadEvents(events, p.first, []byte(p.entries), since, limit); err != nil {
				return nil, 0, err
			}
			from = "(" + x.ID
		}
	}
	return events, oldest, nil
}

// LastSeq is the Seq of the newest entry ever written.
func (db *DB) LastSeq(ctx context.Context) (int64, error) {
	res, err := db.readTexts(ctx, "HMGET", db.key("meta"), "seq")
	if err != nil || len(res) == 0 || res[0] == "" {
		return 0, err
	}
	return strconv.ParseInt(res[0], 10, 64)
}

const (
	// watchBlock is how long one read waits for a new entry of the log.
	watchBlock = 5 * time.Second
	// watchPause is waited behind each: one look is for all that came meanwhile.
	watchPause = 25 * time.Millisecond
)

// WatchEvents waits for new entries on a connection of its own.
func (db *DB) WatchEvents(ctx context.Context, grown func(newest int64)) error {
	o, err := options(&db.cfg, 1, func() {})
	if err != nil {
		return err
	}
	waiter := goredis.NewClient(o)
	defer waiter.Close()                                          //nolint:errcheck // nothing was written that could be lost
	defer context.AfterFunc(ctx, func() { _ = waiter.Close() })() // ends the read below
	for {
		last, err := db.LastSeq(ctx)
		if err != nil {
			return err
		}
		grown(last)
		wait := &goredis.XReadArgs{Streams: []string{db.key("log"), strconv.FormatInt(last, 10) + "-0"}, Count: 1, Block: watchBlock}
		if err := waiter.XRead(ctx, wait).Err(); err != nil && !errors.Is(err, goredis.Nil) {
			return unavailable(ctx, "wait for events", err)
		}
		select {
		case <-time.After(watchPause):
		case <-ctx.Done():
			return nil
		}
	}
}
