package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// history restores what the task history knows. A record that this process
// remembers in a newer form is taken in that form, with the key of the history.
func (j *rebuild) history(ctx context.Context, memory map[string]Record) error {
	if j.db.cfg.History == nil {
		return nil
	}
	for after := ""; ; {
		list, err := j.db.cfg.History.Since(ctx, j.found, after, restorePage)
		if err != nil {
			return fmt.Errorf("read the task history: %w", err)
		}
		if len(list) == 0 {
			return nil
		}
		after = list[len(list)-1].Task.ID
		for i, rec := range list {
			m, ok := memory[rec.Task.ID]
			if !ok {
				continue
			}
			delete(memory, rec.Task.ID)
			if m.Rev > rec.Rev {
				list[i].Task, list[i].Rev = m.Task, m.Rev
			}
		}
		if err := j.restore(ctx, list); err != nil {
			return err
		}
		if err := j.keep(ctx); err != nil {
			return err
		}
	}
}

// keep prolongs the claim on the rebuilding.
func (j *rebuild) keep(ctx context.Context) error {
	err := j.db.writer.Do(ctx, "SET", j.db.key("recover"), j.token, "XX", "EX", 30).Err()
	return unavailable(ctx, "keep the claim on the rebuilding", err)
}

// restore writes records that the server does not have, or has in an older form.
func (j *rebuild) restore(ctx context.Context, list []Record) error {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].Task.ID
	}
	rows, err := j.db.rows(ctx, ids)
	if err != nil {
		return err
	}
	have := make(map[string]*row, len(rows))
	for i := range rows {
		have[rows[i].id] = &rows[i]
	}
	var ops []persistence.Op
	for i := range list {
		rec := &list[i]
		j.noteSession(&rec.Task)
		cur := have[rec.Task.ID]
		if cur != nil && !j.newer(rec, cur) {
			continue
		}
		t := rec.Task
		if t.State.Terminal() {
			j.report.Restored++
		} else {
			j.again(&t)
		}
		if cur == nil {
			ops = append(ops, persistence.Op{Insert: &persistence.TaskInsert{Task: t, IdemKey: rec.IdemKey, IdemHash: rec.IdemHash}})
			continue
		}
		old, _, _, err := cur.decode()
		if err != nil {
			return err
		}
		ops = append(ops, persistence.Op{Update: &persistence.TaskUpdate{Task: t, From: old.State, FromClaim: old.Claim}})
	}
	return j.write(ctx, ops)
}

// newer reports whether the record tells more than the row. A row that another
// process has rebuilt without knowing of the task's end gives way to the end.
func (j *rebuild) newer(rec *Record, cur *row) bool {
	rebuilt := cur.rev() > j.report.KnownBatch
	if rebuilt {
		return rec.Task.State.Terminal() && messages.TaskState(cur.task[0]).Waiting()
	}
	return rec.Rev > cur.rev()
}

// again makes an open task ready for another run, or holds it. Its claims may
// be among what was lost, so neither its run ids nor its session key go on.
func (j *rebuild) again(t *messages.Task) {
	t.Claim += claimGap
	if t.Session == "" {
		t.Generation += generationGap
	}
	t.Gateway, t.BootID, t.ObservedRunID, t.Stopping = "", "", "", messages.StopNone
	t.ClaimedAt, t.StartedAt, t.Active, t.ActiveSince = time.Time{}, time.Time{}, 0, time.Time{}
	switch {
	case t.State == messages.Held:
		j.report.Held = append(j.report.Held, t.ID)
	case t.OnUnknown() == messages.Hold:
		t.State, t.DueAt = messages.Held, messages.Now().Add(heldFor)
		j.report.Held = append(j.report.Held, t.ID)
	case t.State == messages.Scheduled || t.State == messages.RetryWait:
		j.report.Requeued = append(j.report.Requeued, t.ID)
	default:
		t.State, t.DueAt = messages.Queued, time.Time{}
		j.report.Requeued = append(j.report.Requeued, t.ID)
	}
}

// heldFor is how long a held task waits for an operator.
const heldFor = 24 * time.Hour

// survivors looks at the open tasks that the server still has: one that waits
// may have been claimed in a batch that was lost. One that is at a gateway
// keeps its claim: its owner asks the gateway, as after any take-over.
func (j *rebuild) survivors(ctx context.Context) error {
	pools, err := j.db.OpenPools(ctx)
	if err != nil {
		return err
	}
	for _, pool := range pools {
		for after, more := "", true; more; {
			var list []messages.Task
			if list, more, err = j.db.OpenTasks(ctx, pool, after, restorePage); err != nil {
				return err
			}
			if len(list) == 0 {
				break
			}
			after = list[len(list)-1].ID
			if err := j.survived(ctx, list); err != nil {
				return err
			}
			if err := j.keep(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (j *rebuild) survived(ctx context.Context, list []messages.Task) error {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	rows, err := j.db.rows(ctx, ids)
	if err != nil {
		return err
	}
	var ops []persistence.Op
	for i := range rows {
		t, _, _, err := rows[i].decode()
		if err != nil {
			return err
		}
		j.noteSession(&t)
		if rows[i].rev() > j.found || !t.State.Waiting() {
			continue
		}
		from, claim := t.State, t.Claim
		j.again(&t)
		ops = append(ops, persistence.Op{Update: &persistence.TaskUpdate{Task: t, From: from, FromClaim: claim}})
	}
	return j.write(ctx, ops)
}

// noteSession collects the greatest generation that a session is known to have
// used, and when its first task came.
func (j *rebuild) noteSession(t *messages.Task) {
	if t.Session == "" {
		return
	}
	k := agentField(t.Tenant, t.Session)
	s, ok := j.sessions[k]
	first := t.CreatedAt
	if ok && s.CreatedAt.Before(first) {
		first = s.CreatedAt
	}
	if !ok || s.Generation < t.Generation {
		s = messages.Session{Tenant: t.Tenant, ID: t.Session, Pool: t.Pool, Generation: t.Generation}
	}
	s.CreatedAt = first
	j.sessions[k] = s
}

// opened is when the session was: with its first task, unless that was one of an
// earlier session with its id, which was removed. The generation tells: it is
// later by a second for each new one, and by the gap for each loss.
func opened(s *messages.Session, now time.Time) time.Time {
	if at := messages.OpenedBefore(s.Generation); at.Sub(s.CreatedAt) > time.Hour && !at.After(now) {
		return at
	}
	return s.CreatedAt
}

// writeSessions makes the sessions that are missing, each with a generation
// that was never used and with its history replayed.
func (j *rebuild) writeSessions(ctx context.Context) error {
	var ops []persistence.Op
	for k, s := range j.sessions {
		now := messages.Now()
		s.CreatedAt = opened(&s, now)
		res, err := j.db.readTexts(ctx, "HMGET", j.db.key("agent"), k)
		if err != nil {
			return err
		}
		if res[0] != "" {
			old, err := decodeSession(res[0])
			if err != nil {
				return err
			}
			if old.Generation >= s.Generation {
				continue
			}
			s = old
			s.Generation = j.sessions[k].Generation
		}
		s.Generation += generationGap
		s.Replay, s.State, s.Gateway, s.UpdatedAt = true, messages.SessionIdle, "", now
		s.Reason = "its row was lost with the data of the redis server; a new generation begins with the history"
		ops = append(ops, persistence.Op{Session: &persistence.SessionWrite{Session: s, AnyGeneration: true}})
		if len(ops) == restorePage {
			j.report.Sessions += len(ops)
			if err := j.write(ctx, ops); err != nil {
				return err
			}
			ops = nil
		}
	}
	j.report.Sessions += len(ops)
	return j.write(ctx, ops)
}
