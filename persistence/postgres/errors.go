package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dash-fleet/dash/persistence"
	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs that the engine acts on.
const (
	codeSerialization = "40001"
	codeDeadlock      = "40P01"
	codeUnique        = "23505"
	// Raised by commit_batch_v1.
	codeStale    = "DS001" // the writer's row is not as the batch expects it
	codeMismatch = "DS002" // something did not fit that the batch did not look at
)

// unavailable wraps what the server or the way to it is to blame for as
// ErrUnavailable. What the statement itself is to blame for (syntax, types,
// constraints) stays as it is.
func unavailable(step string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, persistence.ErrUnavailable):
		return fmt.Errorf("%s: %w", step, err)
	}
	if class := sqlState(err); len(class) == 5 && strings.Contains("22 23 42", class[:2]) {
		return fmt.Errorf("%s: %w", step, err)
	}
	return fmt.Errorf("%s: %w: %w", step, persistence.ErrUnavailable, err)
}

// neverTaken says that values of a batch, or its size, are to blame (data
// exceptions and limits of the program), so that the same batch will be refused
// for ever.
func neverTaken(err error) bool {
	state := sqlState(err)
	return strings.HasPrefix(state, "22") || strings.HasPrefix(state, "54")
}

// sqlState is the SQLSTATE of err, empty if the server did not say it.
func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// refused says whether err is the server's word that the transaction was
// rolled back. FATAL and PANIC end the session and may come after the COMMIT,
// and a broken connection says nothing.
func refused(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.SeverityUnlocalized == "ERROR"
}

// readError is the error of a read: nothing was to be kept.
func readError(ctx context.Context, step string, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%s: %w", step, ctx.Err())
	}
	return unavailable(step, err)
}
