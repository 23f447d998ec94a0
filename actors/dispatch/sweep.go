package dispatch

import (
	"errors"
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// loadTasks takes one page of rows while the pool reads itself back.
func (b *broker) loadTasks(rows []messages.Task) {
	for _, row := range rows {
		if b.tasks[row.ID] == nil {
			b.add(row)
		}
	}
}

// loadSessions keeps the sessions that have something to do; the others are
// read when they are needed.
func (b *broker) loadSessions(rows []messages.Session) {
	for _, row := range rows {
		key := sessionID(row.Tenant, row.ID)
		if row.State == messages.SessionClosed || row.State == messages.SessionIdle && b.arb.Open(key) == 0 {
			continue
		}
		b.learn(b.session(key), row)
	}
}

// loaded begins to serve: everything is read back.
func (b *broker) loaded(ctx actor.Context, seq int64) {
	if seq > b.s.seq.Load() {
		b.s.seq.Store(seq)
	}
	b.serving = true
	b.flush(ctx)
	for key := range b.sessions {
		if s := b.sessions[key]; !s.known && !s.busy {
			b.reloadSession(s.row.Tenant, s.row.ID)
		}
	}
	for _, e := range b.tasks {
		if e.item.Session != "" && b.sessions[e.item.Session] == nil {
			b.reloadSession(e.row.Tenant, e.row.Session)
		}
		b.settle(ctx, e)
	}
	ctx.Send(b.s.root, serves{tasks: len(b.tasks)})
	b.tick(ctx)
	b.s.after(sweepEvery, b.self, sweepTime{})
}

// sweep walks over the pool's rows, a bounded number each time, and compares
// them with memory. It starts from the rows, so that it also finds what memory
// never heard of.
type sweep struct {
	after   string            // last id seen
	changes uint64            // broker.changes when the present read began
	unknown map[string]uint64 // rows that memory did not have, by the sweep that saw them
	number  uint64
}

// swept carries rows to compare; verified carries single rows that were read
// because a gateway no longer lists them.
type (
	swept struct {
		rows []messages.Task
		last bool
		err  error
	}
	verified struct {
		rows    []messages.Task
		missing []string
		changes uint64
		err     error
	}
)

func (b *broker) startSweep(ctx actor.Context) {
	b.sweep.number++
	b.sweep.changes = b.changes
	after := b.sweep.after
	b.s.read(b.self, func(rctx readContext) any {
		var m swept
		for range sweepPages {
			page, more, err := b.s.Store.OpenTasks(rctx, b.s.Pool.ID, after, loadPage)
			if err != nil {
				m.err = err
				return m
			}
			m.rows = append(m.rows, page...)
			if m.last = !more; m.last {
				break
			}
			after = page[len(page)-1].ID
		}
		return m
	})
	b.sweepBlocked(ctx)
}

// sweepBlocked looks again at tasks that wait for the pool itself.
func (b *broker) sweepBlocked(ctx actor.Context) {
	for _, g := range b.gates {
		for _, e := range g.tasks {
			if e.row.CancelRequested() {
				b.settle(ctx, e)
			}
		}
	}
}

func (b *broker) swept(ctx actor.Context, m swept) {
	defer b.s.after(sweepEvery, b.self, sweepTime{})
	if m.err != nil {
		b.s.Logger.Warn("sweep cannot read the pool's rows", slog.String("pool", b.pool.ID), slog.Any("err", m.err))
		return
	}
	seen := map[string]uint64{}
	for _, row := range m.rows {
		if e := b.tasks[row.ID]; e != nil {
			b.compareRow(ctx, e, row, b.sweep.changes)
			continue
		}
		// It may have been committed while its message is still under way, or
		// have ended since it was read: twice unknown means that it was lost.
		if first, ok := b.sweep.unknown[row.ID]; ok && first < b.sweep.number {
			b.mend("unknown_task")
			b.settle(ctx, b.add(row))
			continue
		}
		seen[row.ID] = b.sweep.number
	}
	if m.last {
		b.sweep.after = ""
	} else {
		b.sweep.after = m.rows[len(m.rows)-1].ID
	}
	if m.last || len(b.sweep.unknown) > maxStash {
		b.sweep.unknown = seen
		return
	}
	for id, n := range seen {
		if b.sweep.unknown == nil {
			b.sweep.unknown = map[string]uint64{}
		}
		b.sweep.unknown[id] = n
	}
}

// compareRow takes over a row that differs from memory, unless memory changed
// since the read began.
func (b *broker) compareRow(ctx actor.Context, e *entry, row messages.Task, changes uint64) {
	if e.busy || e.changed > changes {
		return
	}
	same := e.row.State == row.State && e.row.Claim == row.Claim && e.row.Seq == row.Seq && e.row.Gateway == row.Gateway &&
		e.row.Generation == row.Generation && e.row.Trials.Ends() == row.Trials.Ends()
	if same && e.row.CancelRequested() == row.CancelRequested() {
		return
	}
	// What a gateway's owner writes while a claim goes on is no difference.
	if !(row.State.AtGateway() && e.row.State.AtGateway() && row.Claim == e.row.Claim) {
		b.mend("row_" + e.row.State.String() + "_is_" + row.State.String())
	}
	b.apply(e, row)
	b.turnOver(&row)
	b.settle(ctx, e)
}

// verify reads the rows of tasks that should be at a gateway but are not listed there.
func (b *broker) verify(ids []string) {
	if len(ids) == 0 {
		return
	}
	changes := b.changes
	b.s.read(b.self, func(ctx readContext) any {
		m := verified{changes: changes}
		for _, id := range ids {
			row, err := b.s.Store.Task(ctx, "", id)
			switch {
			case errors.Is(err, persistence.ErrNotFound):
				m.missing = append(m.missing, id)
			case err != nil:
				m.err = err
				return m
			default:
				m.rows = append(m.rows, row)
			}
		}
		return m
	})
}

func (b *broker) verified(ctx actor.Context, m verified) {
	for _, row := range m.rows {
		if e := b.tasks[row.ID]; e != nil {
			b.compareRow(ctx, e, row, m.changes)
			b.handOver(ctx, e)
		}
	}
	for _, id := range m.missing {
		if e := b.tasks[id]; e != nil && !e.busy && e.changed <= m.changes {
			b.mend("missing_row")
			b.drop(e)
		}
	}
	if m.err != nil {
		b.s.Logger.Warn("rows of unlisted tasks cannot be read", slog.String("pool", b.pool.ID), slog.Any("err", m.err))
	}
}

// handOver gives a run that goes on by its row, but that the owner of its
// gateway does not list, to that owner: nobody else can end it. A claim whose
// run has not begun is repeated with every Demand anyway.
func (b *broker) handOver(ctx actor.Context, e *entry) {
	g := b.gates[e.row.Gateway]
	if g == nil || e.busy || !e.row.State.AtGateway() || e.row.State == messages.Claimed || b.now.Sub(e.listed) < unlistedAfter {
		return
	}
	b.mend("unlisted_run")
	b.assign(ctx, g, e)
}

// drop forgets a task whose row does not exist.
func (b *broker) drop(e *entry) {
	gone := e.row
	gone.State = messages.Expired
	b.apply(e, gone)
}
