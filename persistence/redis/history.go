package redis

import (
	"context"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Record is a task as the history keeps it.
type Record struct {
	Task     messages.Task
	IdemKey  string // empty: none
	IdemHash []byte
	// Rev is the batch that wrote the row; it grows with every change.
	Rev int64
}

// Mark says how far the history has come.
type Mark struct {
	// Dataset is the identity of the store; empty: there is no mark yet.
	Dataset string
	// Batch and Seq are the counters of the newest batch whose accepted and
	// ended tasks are all in the history.
	Batch, Seq int64
	// At is when that batch was committed, by the server's clock.
	At time.Time
}

// History is a durable copy, outside of Redis, of every task that was accepted
// and of every end. Its methods are safe for concurrent use.
type History interface {
	// Save upserts the records by task id, each unless the stored Rev is
	// greater, and sets the mark unless the stored Batch is greater, all in one
	// transaction. Repeating it is harmless.
	Save(ctx context.Context, m Mark, records []Record) error
	// Mark returns the mark; the zero Mark if there is none.
	Mark(ctx context.Context) (Mark, error)
	// Since pages by task id through the records in no terminal state and those
	// with a Rev greater than rev; after is the last id of the page before.
	Since(ctx context.Context, rev int64, after string, limit int) ([]Record, error)
	// Sweep removes records that ended before the given time, at most limit.
	Sweep(ctx context.Context, before time.Time, limit int) (int, error)
}
