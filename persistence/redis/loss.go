package redis

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// lossState remembers that the server has lost data.
type lossState struct{ at atomic.Pointer[LossError] }

func (s *lossState) err() error {
	if e := s.at.Load(); e != nil {
		return e
	}
	return nil
}

// Lost returns what is known of a loss of data that was not yet recovered, or
// nil. While it is not nil, every write is refused with it.
func (db *DB) Lost() *LossError { return db.lost.at.Load() }

// lose notes the first sign of a loss and says so.
func (db *DB) lose(e *LossError) error {
	e.Seen = time.Now()
	if db.lost.at.CompareAndSwap(nil, e) {
		db.cfg.Logger.Error("redis has lost data; nothing is written until it was recovered", slog.String("cause", e.Cause), slog.String("dataset", e.Dataset),
			slog.String("found_dataset", e.Found), slog.Int64("batch", e.Batch), slog.Int64("found_batch", e.FoundBatch))
		db.metrics.losses.Inc()
	}
	return db.lost.at.Load()
}

// loseWriter reads the answer LOST of a script that knows the writer's number.
func (db *DB) loseWriter(res []any) error {
	e := &LossError{Dataset: db.dataset(), Found: text(res[1]), Batch: db.batchSeen(), FoundBatch: integer(res[2])}
	switch {
	case e.Found == "":
		e.Cause = "the server is empty"
	case e.Found != e.Dataset:
		e.Cause = "the server holds another store than before"
	case e.FoundBatch < e.Batch:
		e.Cause = "the server's newest batch is older than one that it had acknowledged"
	default:
		e.Cause = "the server does not know the newest batch of this process, although it had acknowledged it"
	}
	return db.lose(e)
}

func (db *DB) loseFrom(m Mark, dataset string, batch int64, cause string) {
	_ = db.lose(&LossError{Dataset: m.Dataset, Found: dataset, Batch: m.Batch, FoundBatch: batch, Cause: cause})
}
