package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dash-fleet/dash/persistence"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Repositories returns the configuration half of the store. Each write is one
// statement, and so one transaction; when the connection breaks before the
// answer arrived, ErrUnavailable leaves open whether it took place.
func (db *DB) Repositories() persistence.Repositories {
	return persistence.Repositories{
		Gateways: gateways{db}, Pools: pools{db}, Keys: keys{db},
		Users: users{db}, LoginSessions: loginSessions{db}, Tenants: tenants{db}, Audit: audit{db},
	}
}

const (
	codeForeignKey = "23503"
	// repoTries bounds how often a statement is repeated that the server rolled
	// back for another's sake, or that it certainly never saw.
	repoTries = 4
	// repoPause is the first pause before such a repetition; it doubles.
	repoPause = 5 * time.Millisecond
)

// rowsOf runs a statement and reads all of its rows, repeating it while that
// is harmless.
func rowsOf[T any](ctx context.Context, db *DB, step string, read pgx.RowToFunc[T], query string, args ...any) ([]T, error) {
	return rowsFrom(ctx, db.pool, step, read, query, args...)
}

// rowsFrom is rowsOf on the connections of one pool.
func rowsFrom[T any](ctx context.Context, pool *pgxpool.Pool, step string, read pgx.RowToFunc[T], query string, args ...any) ([]T, error) {
	pause := repoPause
	for try := 1; ; try++ {
		list, err := rowsOnce(ctx, pool, read, query, args)
		if err == nil {
			return list, nil
		}
		if try == repoTries || !harmless(err) {
			return nil, repoError(ctx, step, err)
		}
		select {
		case <-ctx.Done():
			return nil, repoError(ctx, step, ctx.Err())
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause *= 2
	}
}

func rowsOnce[T any](ctx context.Context, pool *pgxpool.Pool, read pgx.RowToFunc[T], query string, args []any) ([]T, error) {
	if _, _, is := persistence.AuditOf(ctx); is {
		return audited(ctx, pool, read, query, args)
	}
	rows, err := pool.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, read)
}

// harmless says that nothing of the statement was kept and a repetition may fare better.
func harmless(err error) bool {
	code := sqlState(err)
	return code == codeSerialization || code == codeDeadlock || pgconn.SafeToRetry(err)
}

// repoError names what the caller can act on.
func repoError(ctx context.Context, step string, err error) error {
	switch sqlState(err) {
	case codeUnique:
		return fmt.Errorf("%s: %w", step, persistence.ErrExists)
	case codeForeignKey:
		return fmt.Errorf("%s: what it refers to: %w", step, persistence.ErrNotFound)
	}
	return readError(ctx, step, err)
}

// rowOf is rowsOf for a statement about one row; without it ErrNotFound.
func rowOf[T any](ctx context.Context, db *DB, step string, read pgx.RowToFunc[T], query string, args ...any) (T, error) {
	list, err := rowsOf(ctx, db, step, read, query, args...)
	return only(step, list, err)
}

func only[T any](step string, list []T, err error) (T, error) {
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%s: %w", step, persistence.ErrNotFound)
	}
	if err != nil {
		var none T
		return none, err
	}
	return list[0], nil
}

// exec runs a statement whose rows are counted. It ends with RETURNING 1, so
// that reading and counting are the same.
func (db *DB) exec(ctx context.Context, step, query string, args ...any) (int, error) {
	list, err := rowsOf(ctx, db, step, pgx.RowTo[int], query, args...)
	return len(list), err
}

// change runs a conditional update. When no row fits, it says whether the
// version was another or the row is not there.
func change[T any](ctx context.Context, db *DB, kind, table, id string, read pgx.RowToFunc[T], query string, args ...any) (T, error) {
	row, err := rowOf(ctx, db, kind+" "+id, read, query, args...)
	if !errors.Is(err, persistence.ErrNotFound) {
		return row, err
	}
	n, cerr := db.exec(persistence.WithoutAudit(ctx), "read "+kind, `SELECT 1 FROM `+table+` WHERE id = $1`, id)
	switch {
	case cerr != nil:
		return row, cerr
	case n > 0:
		return row, fmt.Errorf("%s %s: %w", kind, id, persistence.ErrVersion)
	}
	return row, err
}

// remove deletes one row or says that there is none.
func (db *DB) remove(ctx context.Context, kind, query, id string) error {
	n, err := db.exec(ctx, "remove "+kind+" "+id, query, id)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s %s: %w", kind, id, persistence.ErrNotFound)
	}
	return err
}

// orNull stores "not set" as NULL.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// encoded is v as JSON text, NULL when it is empty.
func encoded(v any, empty bool) (*string, error) {
	if empty {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	s := string(b)
	return &s, nil
}

// decode fills v from JSON text, unless it is NULL.
func decode(text *string, v any) error {
	if text == nil {
		return nil
	}
	return json.Unmarshal([]byte(*text), v)
}
