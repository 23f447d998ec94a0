package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// doubtAfter bounds one try to read back: after it the caller hears that the
// outcome is unknown, and asks again.
const doubtAfter = 2 * time.Second

// resolve finds out whether the slot's lost batch was kept, and returns its
// outcomes if so, nil if not. It keeps trying until ctx ends, but not for long. own says that the
// batch is the caller's; else its outcomes are kept for who asks again.
func (db *DB) resolve(ctx context.Context, s *slot, own bool) ([]persistence.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, doubtAfter)
	defer cancel()
	wait := 20 * time.Millisecond
	for {
		out, kept, err := db.readBack(ctx, s)
		if err == nil {
			found := "not_kept"
			if kept {
				found = "kept"
				s.prev = s.lost.batch
			}
			db.metrics.unknown.WithLabelValues(found).Inc()
			db.cfg.Logger.Warn("the answer to a batch was lost; its outcome was read back", slog.String("found", found), slog.Any("err", s.lost.cause))
			db.slots.settle(s.lost, out, own)
			s.lost = nil
			return out, nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("%w; reading back: %w", s.lost.cause, err)
		}
		wait = min(2*wait, time.Second)
	}
}

// readBack moves the slot's row on, unless the lost batch did so. A batch that
// is still under way holds the row, so this waits for its end; one that the
// server has not begun yet finds the row moved on and fails as a whole. So the
// answer is final.
func (db *DB) readBack(ctx context.Context, s *slot) (out []persistence.Outcome, kept bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.roundTrip())
	defer cancel()
	conn, err := db.commits.Acquire(ctx)
	if err != nil {
		return nil, false, err
	}
	defer conn.Release()
	fence := s.lost.batch + 1
	if _, err := conn.Exec(ctx, `UPDATE writers SET batch = $3, at = now() WHERE id = $1 AND batch = $2`, s.id, s.prev, fence); err != nil {
		return nil, false, err
	}
	var batch int64
	a := &answer{}
	var bad []int32
	err = conn.QueryRow(ctx, `WITH made AS (INSERT INTO writers (id, batch, seq, at) VALUES ($1, $2, 0, now()) ON CONFLICT (id) DO NOTHING RETURNING batch, seq, bad)
 SELECT batch, seq, bad FROM made UNION ALL SELECT batch, seq, bad FROM writers WHERE id = $1`, s.id, fence).Scan(&batch, &a.first, &bad)
	if err != nil {
		return nil, false, err
	}
	if batch != s.lost.batch {
		s.prev, s.next = batch, max(s.next, batch)
		return nil, false, nil
	}
	for _, g := range bad {
		a.bad = append(a.bad, int(g))
	}
	out, err = db.recall(ctx, s.lost.plan, a)
	return out, true, err
}

// recall makes the outcomes of a batch that was kept, with the rows as they are
// now where an outcome carries one.
func (db *DB) recall(ctx context.Context, p *plan, a *answer) ([]persistence.Outcome, error) {
	bad := groupSet(a.bad)
	shown := p.shown(bad)
	if shown == nil {
		return db.finish(p, a), nil
	}
	if err := db.lookUp(ctx, p, shown, a); err != nil {
		return nil, err
	}
	again := p.replay(shown, a)
	out := db.number(p, a, bad)
	for i := range out {
		switch {
		case !shown[i]:
		case bad[p.group(i)]:
			if out[i] = again.outcomes[i]; out[i].Status == persistence.OK && p.ops[i].Cancel == nil {
				out[i].Status = persistence.Conflict // it fits only since
			}
		case p.want[i]:
			out[i].Current = a.find(taskID(&p.ops[i]))
		}
	}
	return out, nil
}

func (a *answer) find(id string) *messages.Task {
	for i := range a.tasks {
		if a.tasks[i].task.ID == id {
			return &a.tasks[i].task
		}
	}
	return nil
}

// lookUp reads the rows that the shown ops touch.
func (db *DB) lookUp(ctx context.Context, p *plan, shown []bool, a *answer) error {
	var ids, tenants, sessionTenants, sessions []string
	var keys [][]byte
	for i := range p.ops {
		op := &p.ops[i]
		if !shown[i] {
			continue
		}
		ids = append(ids, taskID(op))
		if op.Insert != nil && op.Insert.IdemKey != "" {
			tenants, keys = append(tenants, op.Insert.Task.Tenant), append(keys, []byte(op.Insert.IdemKey))
		}
		if op.Session != nil {
			sessionTenants, sessions = append(sessionTenants, op.Session.Session.Tenant), append(sessions, op.Session.Session.ID)
		}
	}
	err := db.rows(ctx, func(v [][]byte) error {
		b, err := decodeTaskRow(v)
		a.tasks = append(a.tasks, b)
		return err
	}, `SELECT `+taskColumns+`, idem_key, idem_hash FROM tasks WHERE id = ANY ($1)
 UNION SELECT `+taskColumns+`, idem_key, idem_hash FROM tasks t JOIN unnest($2::text[], $3::bytea[]) k (tenant0, key0) ON t.tenant = k.tenant0 AND t.idem_key = k.key0`,
		ids, tenants, keys)
	if err != nil {
		return err
	}
	a.generations = map[sessionKey]int64{}
	return db.rows(ctx, func(v [][]byte) error {
		a.generations[sessionKey{string(v[0]), string(v[1])}] = number(v[2])
		return nil
	}, `SELECT s.tenant, s.id, s.generation FROM agent_sessions s JOIN unnest($1::text[], $2::text[]) k (tenant0, id0) ON s.id = k.id0 AND s.tenant = k.tenant0`,
		sessionTenants, sessions)
}
