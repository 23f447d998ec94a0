package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	goredis "github.com/redis/go-redis/v9"
)

// ErrLostData says that the server came back with less than it had
// acknowledged. It is found in the chain of every *LossError.
var ErrLostData = errors.New("the redis server has lost data")

// LossError tells what is missing. All writes are refused with it until
// Recover has rebuilt what can be rebuilt.
type LossError struct {
	// Dataset is the identity this process knows, Found the server's; empty:
	// the server is empty.
	Dataset, Found string
	// Batch is the newest batch that is known to have been durable, FoundBatch
	// the server's.
	Batch, FoundBatch int64
	// Seen is when it was noticed.
	Seen time.Time
	// Cause says in words how it was noticed.
	Cause string
}

func (e *LossError) Error() string {
	return fmt.Sprintf("%v: %s (dataset %q with batch %d was expected, found %q with batch %d); nothing is written until what is known was rebuilt from the task history",
		ErrLostData, e.Cause, e.Dataset, e.Batch, e.Found, e.FoundBatch)
}

// Is makes errors.Is(err, ErrLostData) true.
func (e *LossError) Is(target error) bool { return target == ErrLostData }

// Unwrap lets callers treat a loss as a store that cannot take writes.
func (e *LossError) Unwrap() error { return persistence.ErrUnavailable }

// PairError refuses a store whose task history is in another database than the
// one that was named: accounts, gateways and the copy of its tasks would be missing.
type PairError struct {
	Dataset string // identity of the store
	Batch   int64  // its newest batch
}

func (e *PairError) Error() string {
	return fmt.Sprintf("the Redis server holds a store (%s, %d batches) that this PostgreSQL database has never seen", e.Dataset, e.Batch)
}

// Next says what to do about it.
func (e *PairError) Next() string {
	return fmt.Sprintf(next.GivePair, DefaultPrefix)
}

// BusyError refuses to change a store that others work on.
type BusyError struct {
	Why    string
	Advice string // what to do about it
}

func (e *BusyError) Error() string { return e.Why }

// Next says what to do about it.
func (e *BusyError) Next() string { return e.Advice }

func nodesRun(n int) *BusyError {
	return &BusyError{fmt.Sprintf("%d nodes of dash run on this store", n), next.StopNodesOrOtherStore}
}

// fate says what is known of a command that returned an error.
type fate uint8

const (
	refused fate = iota // the server said no: nothing was done
	unsent              // it never reached the server
	unknown             // the answer was lost
)

func fateOf(err error) fate {
	var op *net.OpError
	var server goredis.Error
	switch {
	case errors.As(err, &server):
		return refused
	case errors.Is(err, goredis.ErrPoolTimeout), errors.Is(err, goredis.ErrClosed):
		return unsent
	case errors.As(err, &op) && op.Op == "dial":
		return unsent
	}
	return unknown
}

// unavailable wraps what the server or the connection reported. The ctx's own
// end is returned as it is.
func unavailable(ctx context.Context, step string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%s: %w: %w%s", step, persistence.ErrUnavailable, err, hint(err))
}

// hint says what to do about an error of the server.
func hint(err error) string {
	text := err.Error()
	for prefix, what := range map[string]string{
		"OOM":       " (redis is at its memory limit: raise maxmemory, or sweep finished tasks earlier)",
		"MISCONF":   " (redis cannot write to its disk: free space, then look at its log)",
		"READONLY":  " (this redis is a replica: name the primary in --redis-url)",
		"LOADING":   " (redis is still loading its append-only file)",
		"NOAUTH":    " (redis wants a password: put it into the URL)",
		"WRONGPASS": " (check the user and the password in the URL)",
		"NOPERM":    " (the redis user lacks rights: it needs the keys below the prefix, scripts, and CONFIG GET or --redis-accept-loss)",
	} {
		if strings.HasPrefix(text, prefix) {
			return what
		}
	}
	return ""
}
