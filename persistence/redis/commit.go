package redis

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dash-fleet/dash/persistence"
)

// writer sends one batch at a time. Its batches carry consecutive numbers, and
// the server keeps the newest: a batch that is sent again is answered, not
// applied, and a server that went back in time is recognised by an old number.
type writer struct {
	id  string
	sem chan struct{}

	dataset atomic.Pointer[string]
	least   atomic.Int64 // newest batch counter seen
	seq     atomic.Int64 // newest event seq seen

	// The rest belongs to the holder of sem.
	number int64 // of the newest batch that was answered
	doubt  bool  // number+1 was sent and its fate is unknown
	first  *persistence.Op
	length int // the batch in doubt is the slice of this length from first on
}

func newWriter(id string) *writer {
	w := &writer{id: id, sem: make(chan struct{}, 1)}
	w.dataset.Store(new(string))
	return w
}

// raise makes v at least n.
func raise(v *atomic.Int64, n int64) {
	for old := v.Load(); old < n && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

func (w *writer) acquire(ctx context.Context) error {
	select {
	case w.sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) release() { <-w.sem }

// Commit makes a batch durable by one script call. A batch that has begun runs
// to its end, for at most six seconds, whatever becomes of ctx. When the answer
// is lost the same batch is sent again, which cannot apply it twice; if no
// answer can be had at all the error is persistence.ErrUnknown.
func (db *DB) Commit(ctx context.Context, batch []persistence.Op) ([]persistence.Outcome, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := persistence.CheckOps(batch); err != nil {
		return nil, err
	}
	enc, err := encodeBatch(batch)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := db.w.acquire(ctx); err != nil {
		return nil, err
	}
	defer db.w.release()
	r, err := db.commit(context.WithoutCancel(ctx), enc, batch)
	if err != nil {
		db.metrics.Failed.Inc()
		return nil, err
	}
	db.metrics.Committed(begun, len(batch))
	return db.finish(batch, r)
}

// reply is the server's answer to a batch.
type reply struct {
	batch, first int64
	statuses     string
	currents     []any
}

// commit sends the batch under the next number. The caller holds the writer.
func (db *DB) commit(ctx context.Context, enc *encoder, batch []persistence.Op) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, db.budget)
	defer cancel()
	if err := db.writable(ctx, batch); err != nil {
		return reply{}, err
	}
	r, err := db.apply(ctx, enc, len(batch))
	if w := db.w; w.doubt && len(batch) > 0 {
		w.first, w.length = &batch[0], len(batch)
	}
	return r, err
}

// inDoubt reports whether batch is the one whose fate is unknown: the same
// batch goes on under the same number, which cannot apply it twice.
func (w *writer) inDoubt(batch []persistence.Op) bool {
	return w.doubt && len(batch) > 0 && w.first == &batch[0] && w.length == len(batch)
}

// apply sends a batch whatever is known of the store's state.
func (db *DB) apply(ctx context.Context, enc *encoder, ops int) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, db.budget)
	defer cancel()
	outbox := ""
	if db.cfg.History != nil {
		outbox = "1"
	}
	w := db.w
	args := enc.args([]any{db.dataset(), w.id, w.number + 1, w.least.Load(), outbox}, ops)
	res, err := db.send(ctx, args)
	if err != nil {
		return reply{}, err
	}
	if text(res[0]) == "LOST" {
		return reply{}, db.loseWriter(res)
	}
	w.number++
	w.doubt, w.first = false, nil
	r := reply{batch: integer(res[1]), first: integer(res[2]), statuses: text(res[3])}
	if len(res) > 4 {
		r.currents, _ = res[4].([]any)
	}
	raise(&w.least, r.batch)
	return r, nil
}

// dataset is the identity of the store that this process works with.
func (db *DB) dataset() string { return *db.w.dataset.Load() }

func (db *DB) batchSeen() int64 { return db.w.least.Load() }

// writable says whether a batch may be sent, and first ends the doubt about
// another.
func (db *DB) writable(ctx context.Context, batch []persistence.Op) error {
	if err := db.lost.err(); err != nil {
		return err
	}
	if err := db.durable.refusal(); err != nil {
		return err
	}
	w := db.w
	if !w.doubt || w.inDoubt(batch) {
		return nil
	}
	actx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	res, err := db.eval(actx, db.writer, db.scripts.settle, db.dataset(), w.id, w.number+1)
	if err != nil {
		return unavailable(ctx, "settle the batch before", err)
	}
	if text(res[0]) == "LOST" {
		return db.loseWriter(res)
	}
	w.number, w.doubt, w.first = w.number+1, false, nil
	return nil
}

// send repeats the batch until it is answered or the budget is spent. Only
// what may have reached the server is repeated.
func (db *DB) send(ctx context.Context, args []any) ([]any, error) {
	maybe := db.w.doubt
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		actx, cancel := context.WithTimeout(ctx, writeLimit)
		res, err := db.eval(actx, db.writer, db.scripts.commit, args...)
		cancel()
		if err == nil {
			return res, nil
		}
		f := fateOf(err)
		if f == unknown {
			maybe = true
			db.metrics.unknown.Inc()
		}
		if !maybe {
			return nil, fmt.Errorf("commit: %w: %w%s", persistence.ErrUnavailable, err, hint(err))
		}
		select {
		case <-ctx.Done():
			db.w.doubt = true
			return nil, fmt.Errorf("commit: %w: %w", persistence.ErrUnknown, err)
		case <-time.After(pause):
		}
	}
}

// finish turns the answer into outcomes and numbers the events.
func (db *DB) finish(batch []persistence.Op, r reply) ([]persistence.Outcome, error) {
	if len(r.statuses) != len(batch) {
		return nil, fmt.Errorf("commit: redis answered %d of %d ops", len(r.statuses), len(batch))
	}
	out := make([]persistence.Outcome, len(batch))
	seq := r.first - 1
	for i := range out {
		out[i].Status = persistence.Status(r.statuses[i] - '0')
		switch out[i].Status {
		case persistence.OK:
			for _, e := range batch[i].Events {
				seq++
				e.Seq = seq
			}
			db.recent.add(&batch[i], r.batch)
		case persistence.Fenced:
			db.metrics.Fenced.Inc()
		case sameBody:
			out[i].Status, out[i].SameBody = persistence.Duplicate, true
		}
	}
	raise(&db.w.seq, seq)
	for i := 0; i+4 < len(r.currents); i += 5 {
		n := integer(r.currents[i]) - 1
		if n < 0 || int(n) >= len(out) {
			return nil, fmt.Errorf("commit: redis answered for op %d of %d", n, len(out))
		}
		cur := row{text(r.currents[i+1]), text(r.currents[i+2]), text(r.currents[i+3]), text(r.currents[i+4])}
		t, _, _, err := cur.decode()
		if err != nil {
			return nil, fmt.Errorf("commit: %w", err)
		}
		out[n].Current = &t
	}
	return out, nil
}

// sameBody is the status of a duplicate with the same body.
const sameBody persistence.Status = 6
