package postgres

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// NodesRunError refuses a database that nodes work on.
type NodesRunError struct{ Nodes int }

func (e *NodesRunError) Error() string {
	return fmt.Sprintf("%d nodes of dash run on this database", e.Nodes)
}

// Advice says what an operator does about an error of this package. fatal is
// true when trying again without a change is of no use. advice is empty when
// there is nothing more to say than the error does.
func Advice(err error) (advice string, fatal bool) {
	code := sqlState(err)
	var pooled *PoolingError
	var loses *DurabilityError
	switch {
	case errors.As(err, &pooled):
		return pooled.Next(), true
	case errors.As(err, &loses):
		return loses.Next, true
	case code == "3D000":
		return next.MakeDatabase, true
	case strings.HasPrefix(code, "28"):
		return next.CheckPostgresLogin, true
	case code == "42501":
		return next.OwnDatabase, true
	case code == "08P01" && strings.Contains(err.Error(), "startup parameter"):
		return next.TakeParameterOut, true
	case code == "53300":
		return next.RaiseMaxConnections, false
	}
	return "", false
}

// connectError is a failed connect in one line: the driver repeats itself for
// every address and every attempt with and without TLS.
func connectError(cc *pgx.ConnConfig, err error) error {
	step := "connect to " + host(cc)
	var server *pgconn.PgError
	var op *net.OpError
	switch {
	case errors.As(err, &server):
		return fmt.Errorf("%s: %w: %w", step, persistence.ErrUnavailable, server)
	case errors.As(err, &op) && op.Op == "dial" && !strings.Contains(host(cc), ","):
		return fmt.Errorf("%s: %w: %w", step, persistence.ErrUnavailable, op)
	}
	return unavailable(step, brief{err})
}

// brief is an error of several lines told in one, each thing once.
type brief struct{ error }

func (b brief) Unwrap() error { return b.error }

func (b brief) Error() string {
	lines := strings.Split(b.error.Error(), "\n\t")
	if len(lines) == 1 {
		return lines[0]
	}
	var said []string
	for _, line := range lines[1:] { // the first is only a heading
		line = strings.TrimSpace(line)
		if !slices.ContainsFunc(said, func(s string) bool { return strings.HasSuffix(s, line) }) {
			said = append(said, line)
		}
	}
	return strings.Join(said, "; ")
}
