package persistence

import (
	"context"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// HistoryRecord is a task as the task history keeps it.
type HistoryRecord struct {
	Task     messages.Task
	IdemKey  string // empty: none
	IdemHash []byte
	// Rev is the batch that wrote the row; it grows with every change.
	Rev int64
}

// HistoryMark says how far the task history has come.
type HistoryMark struct {
	// Dataset is the identity of the store; empty: there is no mark yet.
	Dataset string
	// Batch and Seq are the counters of the newest batch whose accepted and
	// ended tasks are all in the history.
	Batch, Seq int64
	// At is when that batch was committed, by the store's clock.
	At time.Time
}

// History is a durable copy, outside of the Store, of every task that was
// accepted and of every end: what a store that has lost data is rebuilt from.
// Its methods are safe for concurrent use.
type History interface {
	// Save upserts the records by task id, each unless the stored Rev is
	// greater, and sets the mark unless the stored Batch is greater, all in one
	// transaction. Repeating it is harmless.
	Save(ctx context.Context, m HistoryMark, records []HistoryRecord) error
	// Mark returns the mark; the zero mark if there is none.
	Mark(ctx context.Context) (HistoryMark, error)
	// Since pages by task id through the records in no terminal state and those
	// with a Rev greater than rev; after is the last id of the page before.
	Since(ctx context.Context, rev int64, after string, limit int) ([]HistoryRecord, error)
	// Sweep removes records that ended before the given time, at most limit,
	// and says how many.
	Sweep(ctx context.Context, before time.Time, limit int) (int, error)
}
