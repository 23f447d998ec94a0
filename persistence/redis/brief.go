package redis

import (
	"context"
	"encoding/binary"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// briefBytes is how much of values one script looks at: some milliseconds.
	briefBytes = 8 << 20
	// briefParts is how many values the script gives for each task.
	briefParts = 7
)

// brief is a row of which a long task or spec is not read in full.
type brief struct {
	id         string
	task, spec rows.Cut
	cancel     string
}

// size is what was read of it.
func (b *brief) size() int64 {
	return int64(len(b.task.Head) + len(b.task.Tail) + len(b.spec.Head) + len(b.spec.Tail))
}

// whole is the size of the row in the store.
func (b *brief) whole() int64 { return b.task.Size + b.spec.Size }

// briefs hands over the tasks in the order of ids, a few at a time, until each
// returns false. Ids without a row are left out.
func (db *DB) briefs(ctx context.Context, ids []string, each func(b *brief) (more bool, err error)) (more bool, err error) {
	for len(ids) > 0 {
		args := []any{rows.BriefHead, rows.BriefTail, briefBytes}
		for _, id := range ids[:min(len(ids), walk)] {
			args = append(args, id)
		}
		res, err := db.eval(ctx, db.reader, db.scripts.briefs, args...)
		if err != nil {
			return false, unavailable(ctx, "read tasks", err)
		}
		n := len(res) / briefParts
		for i := range n {
			v := res[i*briefParts:]
			b := brief{id: ids[i], task: cutOf(v), spec: cutOf(v[3:]), cancel: text(v[6])}
			if b.task.Size == 0 {
				continue
			}
			if more, err := each(&b); err != nil || !more {
				return false, err
			}
		}
		ids = ids[n:]
	}
	return true, nil
}

func cutOf(v []any) rows.Cut {
	size, _ := v[2].(int64)
	return rows.Cut{Head: []byte(text(v[0])), Tail: []byte(text(v[1])), Size: size}
}

// decode returns the task and the place of its row; a row in which more is long
// than a text is read in full.
func (db *DB) decode(ctx context.Context, b *brief) (t messages.Task, no int64, err error) {
	r := row{b.id, string(b.task.Head), string(b.spec.Head), b.cancel}
	if len(r.task) < rowNames {
		return t, 0, errRow(b.id, "it is too short")
	}
	no = r.no()
	var left messages.Brief
	var fit bool
	if r.task, left.Text, fit = dropBehind(b.task, taskNames, tailResult, 1); fit {
		r.spec, left.Message, fit = dropBehind(b.spec, specTenant, specSpec, 1)
	}
	if !fit {
		list, err := db.decoded(ctx, []string{b.id})
		if err != nil || len(list) == 0 {
			return t, no, err // gone meanwhile: it has no id
		}
		rows.Shorten(&list[0])
		return list[0], no, nil
	}
	t, _, _, err = r.decode()
	if left != (messages.Brief{}) {
		t.Brief = &left
	}
	return t, no, err
}

// dropBehind leaves a text out of the fields that stand behind the begin of a value.
func dropBehind(c rows.Cut, begin func(head []byte) int, path ...protowire.Number) (value string, text int64, ok bool) {
	n := begin(c.Head)
	if n > len(c.Head) {
		return string(c.Head), 0, c.Whole() // damaged, or names that are long: decode tells
	}
	rest, text, ok := rows.Cut{Head: c.Head[n:], Tail: c.Tail, Size: c.Size - int64(n)}.Drop(path...)
	return string(c.Head[:n]) + string(rest), text, ok
}

// taskNames and specTenant are where the fields of a row and of a spec begin.
func taskNames(head []byte) int {
	if len(head) < rowPool {
		return len(head)
	}
	return rowPool + int(binary.BigEndian.Uint16(head[rowNames:rowPool]))
}

func specTenant(head []byte) int {
	if len(head) < 2 {
		return len(head)
	}
	return 2 + int(binary.BigEndian.Uint16(head))
}

// inFull reads the tasks again that are brief. One that is gone meanwhile, or
// does not fit the filter any more, is left out.
func (db *DB) inFull(ctx context.Context, f *persistence.TaskFilter, tasks []messages.Task) ([]messages.Task, error) {
	var ids []string
	for i := range tasks {
		if tasks[i].Brief != nil {
			ids = append(ids, tasks[i].ID)
		}
	}
	list, err := db.decoded(ctx, ids)
	if err != nil {
		return nil, err
	}
	whole := make(map[string]messages.Task, len(list))
	for _, t := range list {
		whole[t.ID] = t
	}
	out := tasks[:0]
	for _, t := range tasks {
		there := true
		if t.Brief != nil {
			t, there = whole[t.ID]
		}
		if there && matches(f, &t) {
			out = append(out, t)
		}
	}
	return out, nil
}
