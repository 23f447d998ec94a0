package postgres

import (
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// groupSet makes a list of groups one to look up in.
func groupSet(list []int) map[int]bool {
	set := make(map[int]bool, len(list))
	for _, g := range list {
		set[g] = true
	}
	return set
}

// finish turns the answer to a committed batch into outcomes.
func (db *DB) finish(p *plan, a *answer) []persistence.Outcome {
	bad := groupSet(a.bad)
	out := db.number(p, a, bad)
	if shown := p.shown(bad); shown != nil {
		again := p.replay(shown, a)
		for i := range shown {
			if !shown[i] {
				continue
			}
			if out[i] = again.outcomes[i]; out[i].Status == persistence.Duplicate && bad[p.group(i)] {
				out[i].Current = p.asOf(out[i].Current, i, bad)
			}
		}
	}
	return out
}

// number gives the events of what was kept their places in the log.
func (db *DB) number(p *plan, a *answer, bad map[int]bool) []persistence.Outcome {
	seq := a.first
	for i := range p.ops {
		op := &p.ops[i]
		switch {
		case p.skip[i]:
			p.outcomes[i] = persistence.Outcome{Status: persistence.Fenced}
			db.metrics.Fenced.Inc()
			continue
		case p.outcomes[i].Status != persistence.OK || (len(bad) > 0 && bad[p.group(i)]):
			continue
		case op.Insert != nil:
			db.seqs.raise(op.Insert.Task.Pool, op.Insert.Task.Seq)
		case op.Update != nil:
			db.seqs.raise(op.Update.Task.Pool, op.Update.Task.Seq)
		}
		for _, e := range op.Events {
			seq++
			e.Seq = seq
		}
	}
	return p.outcomes
}

// asOf is a row as the ops before op i have left it. Its key kept an insert out
// that did not know of it, so the two are in different groups.
func (p *plan) asOf(row *messages.Task, i int, bad map[int]bool) *messages.Task {
	for k := range p.ops[:i] {
		op := &p.ops[k]
		if p.skip[k] || p.outcomes[k].Status != persistence.OK || bad[p.group(k)] || taskID(op) != row.ID {
			continue
		}
		t := taskNode{state: row.State, row: row}
		switch {
		case op.Update != nil:
			t.cancel = flagUnknown
			t.update(k, op.Update)
		case op.Cancel != nil && !row.CancelRequested():
			t.setFlag(op.Cancel)
		}
		row = t.row
	}
	return row
}

// shown marks the ops whose rows the server returned: those of the groups that
// did not fit, and those that carry a row nobody here knew. nil: none.
func (p *plan) shown(bad map[int]bool) []bool {
	show := make(map[int]bool, len(bad))
	for i := range p.ops {
		if !p.skip[i] && (p.want[i] || bad[p.group(i)]) {
			show[p.group(i)] = true
		}
	}
	if len(show) == 0 {
		return nil
	}
	list := make([]bool, len(p.ops))
	for i := range p.ops {
		list[i] = !p.skip[i] && show[p.group(i)]
	}
	return list
}

// replay plays the shown ops on the rows that the server met.
func (p *plan) replay(shown []bool, a *answer) *plan {
	k := newKnownRows(shown)
	k.add(a)
	skip := make([]bool, len(shown))
	for i := range shown {
		skip[i] = !shown[i]
	}
	return play(p.ops, skip, k)
}
