package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// DurabilityError refuses a server that may lose what it acknowledges.
type DurabilityError struct{ Problem, Next string }

func (e *DurabilityError) Error() string { return "postgres: " + e.Problem }

// Unwrap makes the refusal of a server whose settings were changed while Dash
// ran an unavailable store.
func (e *DurabilityError) Unwrap() error { return persistence.ErrUnavailable }

// Durability is what the server's present settings mean for accepted work.
type Durability struct {
	Raised   string           // what Dash raises for its own connections, empty: nothing
	Accepted string           // what may be lost, and was accepted; empty: nothing
	Wrong    *DurabilityError // why the store refuses writes; nil: it does not
}

// durable is what was last seen of the server's settings.
type durable struct{ seen atomic.Pointer[Durability] }

// Durability tells what may be lost with the server's present settings.
func (db *DB) Durability() Durability {
	if d := db.durable.seen.Load(); d != nil {
		return *d
	}
	return Durability{}
}

// wrongSettings judges the settings that apply to the whole server; those of a
// session are raised when it begins.
func wrongSettings(fsync, fullPageWrites string) *DurabilityError {
	var off []string
	var means string
	if fullPageWrites == "off" {
		off, means = append(off, "full_page_writes"), "pages that a loss of power tears cannot be mended, and what is on them is lost"
	}
	if fsync == "off" {
		off, means = append(off, "fsync"), "a loss of power takes accepted work and may leave a database that cannot be read"
	}
	if off == nil {
		return nil
	}
	return &DurabilityError{
		Problem: strings.Join(off, " is off and ") + " is off: " + means,
		Next:    fmt.Sprintf(next.SetOnOrAcceptLoss, strings.Join(off, " = on`, `ALTER SYSTEM SET ")),
	}
}

// look reads the settings and whether a crash would empty a table.
func (db *DB) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.roundTrip())
	defer cancel()
	var fsync, pages, sync string
	var unlogged []string
	err := db.leases.QueryRow(ctx, `SELECT current_setting('fsync'), current_setting('full_page_writes'),
 (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),
 array(SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relpersistence = 'u' ORDER BY 1)`).Scan(&fsync, &pages, &sync, &unlogged)
	if err != nil {
		return readError(ctx, "read the server's settings", err)
	}
	wrong := wrongSettings(fsync, pages)
	if len(unlogged) > 0 && wrong == nil {
		wrong = &DurabilityError{
			Problem: fmt.Sprintf("the table %s is UNLOGGED: a crash of the server empties it", unlogged[0]),
			Next:    fmt.Sprintf(next.SetLoggedOrAcceptLoss, unlogged[0]),
		}
	}
	now := Durability{Wrong: wrong}
	if wrong != nil && db.cfg.AcceptLoss {
		now = Durability{Accepted: wrong.Problem}
	}
	if sync == "off" || sync == "local" {
		now.Raised = "synchronous_commit is " + sync + " in the server's, database's or role's settings; Dash has it on for its own connections"
	}
	db.note(db.Durability(), now)
	db.durable.seen.Store(&now)
	return nil
}

// note tells the operator what has changed.
func (db *DB) note(before, now Durability) {
	log := db.cfg.Logger
	if now.Raised != before.Raised && now.Raised != "" {
		log.Warn("postgres would acknowledge writes before they are kept", slog.String("reason", now.Raised))
	}
	switch {
	case now.Accepted != before.Accepted && now.Accepted != "":
		log.Warn("postgres may lose acknowledged writes; this was accepted", slog.String("reason", now.Accepted))
	case now.Wrong != nil && (before.Wrong == nil || before.Wrong.Problem != now.Wrong.Problem):
		log.Error("postgres may lose acknowledged writes; the store refuses them until that is put right", slog.String("reason", now.Wrong.Problem), slog.String("next", now.Wrong.Next))
	case now.Wrong == nil && before.Wrong != nil:
		log.Info("postgres keeps acknowledged writes again; the store takes them")
	}
}

// refusesWrites says why nothing is written with the server's settings.
func (db *DB) refusesWrites() error {
	if w := db.Durability().Wrong; w != nil {
		return w
	}
	return nil
}

// watch looks again and again until ctx ends.
func (db *DB) watch(ctx context.Context) {
	t := time.NewTicker(db.cfg.WatchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		// A server that is away is noticed by everybody who needs it.
		if err := db.look(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
			db.cfg.Logger.Debug("the server's settings could not be read", slog.Any("err", err))
		}
	}
}
