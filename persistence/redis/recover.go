package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// claimGap and generationGap are added to numbers whose newest value may be
// among what was lost, so that no run id and no session key is used twice.
const (
	claimGap      = 1000
	generationGap = 1000
	restorePage   = 500
)

// Recovery reports what became of a loss.
type Recovery struct {
	// Loss is what was recovered from; nil: nothing was lost.
	Loss *LossError
	// Dataset is the store's new identity.
	Dataset string
	// Adopted says that another process had rebuilt the store; only what this
	// process remembered was added.
	Adopted bool
	// FoundBatch is the newest batch that the server still had, HistoryBatch
	// the newest whose tasks are all in the history (written at HistoryAt),
	// KnownBatch the newest that this process knows of. Tasks that other
	// processes accepted in batches between HistoryBatch and KnownBatch are
	// restored when those processes recover; if they are gone, those tasks are.
	FoundBatch, HistoryBatch, KnownBatch int64
	HistoryAt                            time.Time
	// Restored counts finished tasks that were written again as they were.
	Restored int
	// Requeued and Held name the open tasks that were lost, or whose newest
	// steps may have been: they run again, or wait for an operator because their
	// policy is hold.
	Requeued, Held []string
	// Sessions counts agent sessions that start a new generation.
	Sessions int
	// Forgotten counts tasks that this process had accepted or ended and no
	// longer remembered; the history may have them.
	Forgotten int64
}

// Unaccounted says in words what nobody here can know; empty: nothing.
func (r *Recovery) Unaccounted() string {
	if r.Loss == nil || (r.KnownBatch <= r.HistoryBatch && r.Forgotten == 0) {
		return ""
	}
	return fmt.Sprintf("batches %d to %d were not yet in the task history (last saved %s): what this process wrote in them was restored from its memory; "+
		"tasks that other processes accepted in them are missing until those processes recover too, and are lost if they have ended. Clients can submit again with the same Idempotency-Key",
		r.HistoryBatch+1, r.KnownBatch, r.HistoryAt.Format(time.RFC3339))
}

// Recover rebuilds what is known of a store that has lost data, from the task
// history and from this process's memory, gives it a new identity and lets
// writes go on. Several processes may call it: one rebuilds, the others adopt
// the result. All owners, epochs and leases start anew above the old ones, so
// whoever owned something must take it again; whatever a process has cached of
// the store is void. It returns a report also when nothing was lost. After an
// error that wraps persistence.ErrUnavailable it is to be called again.
func (db *DB) Recover(ctx context.Context) (*Recovery, error) {
	if err := db.w.acquire(ctx); err != nil {
		return nil, err
	}
	defer db.w.release()
	loss := db.Lost()
	r := &Recovery{Loss: loss, Dataset: db.dataset()}
	if loss == nil {
		return r, nil
	}
	mark := Mark{}
	if db.cfg.History != nil {
		var err error
		if mark, err = db.cfg.History.Mark(ctx); err != nil {
			return nil, fmt.Errorf("recover: read the mark of the task history: %w", err)
		}
	}
	r.HistoryBatch, r.HistoryAt, r.KnownBatch = mark.Batch, mark.At, max(mark.Batch, db.batchSeen(), loss.Batch)
	job := &rebuild{db: db, report: r, fresh: messages.NewID(), token: messages.NewID(), seq: max(mark.Seq, db.w.seq.Load()), sessions: map[string]messages.Session{}}
	if err := job.run(ctx); err != nil {
		return r, fmt.Errorf("recover: %w", err)
	}
	db.tell(ctx, r)
	return r, nil
}

func (db *DB) tell(ctx context.Context, r *Recovery) {
	log := db.cfg.Logger
	log.WarnContext(ctx, "redis store recovered", slog.String("dataset", r.Dataset), slog.Bool("adopted", r.Adopted), slog.Int64("found_batch", r.FoundBatch),
		slog.Int64("history_batch", r.HistoryBatch), slog.Int64("known_batch", r.KnownBatch), slog.Int("restored", r.Restored), slog.Int("requeued", len(r.Requeued)),
		slog.Int("held", len(r.Held)), slog.Int("sessions", r.Sessions), slog.Int64("forgotten", r.Forgotten), slog.String("unaccounted", r.Unaccounted()))
	for _, id := range r.Requeued {
		log.WarnContext(ctx, "task requeued after a loss of data", slog.String("task", id))
	}
	for _, id := range r.Held {
		log.WarnContext(ctx, "task held after a loss of data", slog.String("task", id))
	}
}

// rebuild is one recovery under way. The caller holds the writer.
type rebuild struct {
	db           *DB
	report       *Recovery
	fresh, token string
	seq          int64
	found        int64
	sessions     map[string]messages.Session // greatest generation seen
}

// memory is what this process knows beyond the history: the newest record of
// each task, with the idempotency key of its insert.
func (j *rebuild) memory() map[string]Record {
	m := map[string]Record{}
	for _, rec := range j.db.recent.list() {
		if old, ok := m[rec.Task.ID]; ok && rec.IdemKey == "" {
			rec.IdemKey, rec.IdemHash = old.IdemKey, old.IdemHash
		}
		m[rec.Task.ID] = rec
	}
	return m
}

func (j *rebuild) run(ctx context.Context) error {
	if err := j.clean(ctx); err != nil {
		return err
	}
	adopted, err := j.begin(ctx)
	if err != nil {
		return err
	}
	db, r := j.db, j.report
	r.FoundBatch, r.Adopted, r.Forgotten = j.found, adopted, db.recent.forgotten()
	memory := j.memory()
	if !adopted {
		if err := j.history(ctx, memory); err != nil {
			return err
		}
		if err := j.survivors(ctx); err != nil {
			return err
		}
	}
	var rest []Record
	for _, rec := range memory {
		rest = append(rest, rec)
	}
	for len(rest) > 0 {
		n := min(len(rest), restorePage)
		if err := j.restore(ctx, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	if err := j.writeSessions(ctx); err != nil {
		return err
	}
	return j.finish(ctx, adopted)
}

// clean has the append-only file rewritten. For up to a second after the server
// came back the connection pool still answers with the dial error of before.
func (j *rebuild) clean(ctx context.Context) error {
	for try := 0; ; try++ {
		err := j.db.rewriteAOF(ctx, true)
		if err == nil || try == 15 || fateOf(err) != unsent {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// begin claims the rebuilding, or waits until another process has done it.
func (j *rebuild) begin(ctx context.Context) (adopted bool, err error) {
	db, loss := j.db, j.report.Loss
	for {
		res, err := db.eval(ctx, db.writer, db.scripts.recover, "begin", j.token, loss.Dataset, j.fresh, j.report.KnownBatch, j.seq, messages.Shards)
		if err != nil {
			return false, unavailable(ctx, "begin", err)
		}
		switch text(res[0]) {
		case "GO":
			j.found = integer(res[2])
			return false, db.join(text(res[1]))
		case "ADOPT":
			j.found = integer(res[2])
			return true, db.join(text(res[1]))
		case "FOREIGN":
			return false, fmt.Errorf("the server holds the store %q, which does not descend from %q; check the URL in --redis: another server or database may be meant. Nothing was changed", text(res[1]), loss.Dataset)
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("another process is rebuilding the store: %w", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// join makes the dataset the one this process writes to, as a new writer.
func (db *DB) join(dataset string) error {
	w := db.w
	w.dataset.Store(&dataset)
	w.id, w.number, w.doubt = messages.NewID(), 0, false
	return nil
}

// finish gives the store its new identity and lets writes go on.
func (j *rebuild) finish(ctx context.Context, adopted bool) error {
	db := j.db
	if !adopted {
		res, err := db.eval(ctx, db.writer, db.scripts.recover, "finish", j.token, j.report.Loss.Dataset, j.fresh, 0, 0, messages.Shards)
		if err != nil {
			return unavailable(ctx, "finish", err)
		}
		if text(res[0]) != "OK" {
			return errors.New("another process has taken the rebuilding over; call Recover again")
		}
		db.w.dataset.Store(&j.fresh)
		if h := db.cfg.History; h != nil {
			// Whatever of the old batches the history lacks is in the outbox now,
			// under a new one.
			mark := Mark{Dataset: j.fresh, Batch: j.report.KnownBatch, Seq: j.seq, At: messages.Now()}
			if err := h.Save(ctx, mark, nil); err != nil {
				db.cfg.Logger.WarnContext(ctx, "the task history does not take the new mark yet; the drainer will write it", slog.Any("err", err))
			}
		}
	}
	j.report.Dataset = db.dataset()
	event := &messages.Event{TimeMicros: messages.Now().UnixMicro(), Tenant: messages.DefaultTenant, Type: "store.recovered", Subject: db.dataset()}
	if err := j.write(ctx, []persistence.Op{{Events: []*messages.Event{event}}}); err != nil {
		return err
	}
	db.recent.forget(j.report.KnownBatch)
	db.lost.at.Store(nil)
	return nil
}

// write commits ops although writes are refused.
func (j *rebuild) write(ctx context.Context, ops []persistence.Op) error {
	if len(ops) == 0 {
		return nil
	}
	enc, err := encodeBatch(ops)
	if err != nil {
		return err
	}
	r, err := j.db.apply(ctx, enc, len(ops))
	if err != nil {
		return err
	}
	_, err = j.db.finish(ops, r)
	if bad := strings.IndexFunc(r.statuses, func(s rune) bool { return s != '1' }); err == nil && bad >= 0 {
		err = fmt.Errorf("op %d of a restore: %v", bad, persistence.Status(r.statuses[bad]-'0'))
	}
	return err
}
