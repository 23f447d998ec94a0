package redis

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	goredis "github.com/redis/go-redis/v9"
)

// maxProblems bounds what one check reports.
const maxProblems = 1000

// checker compares rows and indexes, each task and each entry at one moment, so
// that it may run while others write.
type checker struct {
	db       *DB
	problems []string
}

// Check proves that tasks, their index entries, idempotency keys and the log
// agree, in both directions, and returns what does not. It reads everything, a
// bounded piece at a time.
func (db *DB) Check(ctx context.Context) (problems []string, err error) {
	c := &checker{db: db}
	for _, step := range []func(context.Context) error{c.tasks, c.indexes, c.parts, c.sessions, c.log} {
		if err := step(ctx); err != nil {
			return c.problems, fmt.Errorf("check: %w", err)
		}
	}
	return c.problems, nil
}

func (c *checker) say(format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, fmt.Sprintf(format, args...))
	}
}

// scan calls each with the fields or members of a key, without values.
func (c *checker) scan(ctx context.Context, cmd, key string, each func(ctx context.Context, names []string) error) error {
	for cursor := "0"; ; {
		res, err := c.db.reader.Do(ctx, cmd, key, cursor, "COUNT", walk).Slice()
		if err != nil {
			return unavailable(ctx, "scan "+key, err)
		}
		var names []string
		for i, v := range texts(res[1]) {
			if i%2 == 0 {
				names = append(names, v)
			}
		}
		for chunk := range slices.Chunk(names, walk) {
			if err := each(ctx, chunk); err != nil {
				return err
			}
		}
		if cursor = text(res[0]); cursor == "0" {
			return nil
		}
	}
}

// tasks checks from every row to all that belongs to it.
func (c *checker) tasks(ctx context.Context) error {
	return c.scan(ctx, "HSCAN", c.db.key("task"), func(ctx context.Context, ids []string) error {
		rows, err := c.db.rows(ctx, ids)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := c.task(ctx, rows[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// task reads the row again together with its entries.
func (c *checker) task(ctx context.Context, r row) error {
	t, key, _, err := r.decode()
	if err != nil {
		c.say("%v", err)
		return nil
	}
	n, _ := r.names() // decode has read them
	db := c.db
	scores := map[string]*goredis.FloatCmd{}
	var task, spec, cancel, idem *goredis.StringCmd
	_, err = db.reader.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		task, spec, cancel = p.HGet(ctx, db.key("task"), r.id), p.HGet(ctx, db.key("spec"), r.id), p.HGet(ctx, db.key("cancel"), r.id)
		idem = p.HGet(ctx, db.key("idem"), idemField(t.Tenant, key))
		zs := []string{"order", "failed", "open:" + t.Pool, "tasks:" + t.Session, "ended:" + n.session}
		for k := range t.Spec.GetLabels() {
			zs = append(zs, "label:"+k)
		}
		for _, z := range zs {
			scores[z] = p.ZScore(ctx, db.key(z), r.id)
		}
		return nil
	})
	if err != nil && err != goredis.Nil {
		return unavailable(ctx, "read task", err)
	}
	r = row{r.id, task.Val(), spec.Val(), cancel.Val()}
	if r.task == "" {
		return nil // swept meanwhile
	}
	c.entries(&r, &t, scores)
	if key != "" && idemTask(idem.Val()) != r.id {
		c.say("task %s: its idempotency key belongs to %q", r.id, idemTask(idem.Val()))
	}
	return nil
}

func (c *checker) entries(r *row, t *messages.Task, scores map[string]*goredis.FloatCmd) {
	want := func(index string, should bool, score int64) {
		s, ok := scores[index]
		if !ok {
			return
		}
		has := s.Err() == nil
		if has != should {
			c.say("task %s in state %v: in index %s: %v, want %v", r.id, messages.TaskState(r.task[0]), index, has, should)
		} else if has && score >= 0 && int64(s.Val()) != score {
			c.say("task %s: score %v in index %s, want %d", r.id, s.Val(), index, score)
		}
	}
	if r.spec == "" {
		c.say("task %s has no spec", r.id)
	}
	if (r.cntrl != "") != (r.task[rowFlags]&flagCancel != 0) {
		c.say("task %s: cancel row %v, flags %d", r.id, r.cntrl != "", r.task[rowFlags])
	}
	no, session := r.no(), r.task[rowFlags]&flagSession != 0
	want("order", true, no)
	want("failed", r.failed(), no)
	want("open:"+t.Pool, r.open(), 0)
	if session {
		want("tasks:"+t.Session, true, no)
		want("ended:"+sessionField(t.Tenant, t.Session), messages.TaskState(r.task[0]) == messages.Succeeded, -1)
	}
	for k := range t.Spec.GetLabels() {
		want("label:"+k, true, no)
	}
}

func idemTask(value string) string {
	if len(value) < 2 {
		return ""
	}
	n := int(binary.BigEndian.Uint16([]byte(value)))
	return value[2:min(len(value), 2+n)]
}

// indexes checks that every entry of every index has its row. What a row
// should have was checked from the row.
func (c *checker) indexes(ctx context.Context) error {
	for cursor := "0"; ; {
		res, err := c.db.reader.Do(ctx, "SCAN", cursor, "MATCH", globText(c.db.cfg.Prefix)+"*", "COUNT", walk).Slice()
		if err != nil {
			return unavailable(ctx, "scan keys", err)
		}
		for _, key := range texts(res[1]) {
			name := strings.TrimPrefix(key, c.db.cfg.Prefix)
			kind, _, _ := strings.Cut(name, ":")
			if !slices.Contains([]string{"order", "failed", "open", "tasks", "ended", "label"}, kind) {
				continue
			}
			err := c.scan(ctx, "ZSCAN", key, func(ctx context.Context, ids []string) error { return c.members(ctx, key, kind, ids) })
			if err != nil {
				return err
			}
		}
		if cursor = text(res[0]); cursor == "0" {
			return nil
		}
	}
}

func globText(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(s)
}

func (c *checker) members(ctx context.Context, key, kind string, ids []string) error {
	var rows *goredis.SliceCmd
	scores := make([]*goredis.FloatCmd, len(ids))
	_, err := c.db.reader.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		rows = p.HMGet(ctx, c.db.key("task"), ids...)
		for i, id := range ids {
			scores[i] = p.ZScore(ctx, key, id)
		}
		return nil
	})
	if err != nil && err != goredis.Nil {
		return unavailable(ctx, "read index", err)
	}
	for i, id := range ids {
		if scores[i].Err() != nil {
			continue // gone meanwhile
		}
		r := row{id: id, task: text(rows.Val()[i])}
		if r.task == "" {
			c.say("index %s names task %s, which is not there", key, id)
			continue
		}
		n, err := r.names()
		if err != nil {
			c.say("%v", err)
			continue
		}
		s := messages.TaskState(r.task[0])
		ok := map[string]bool{
			"order": true, "tasks": r.task[rowFlags]&flagSession != 0, "label": true, "failed": r.failed(),
			"open": r.open() && key == c.db.key("open:"+n.pool), "ended": s == messages.Succeeded && key == c.db.key("ended:"+n.session),
		}[kind]
		if !ok {
			c.say("index %s names task %s, which is in state %v", key, id, s)
		}
	}
	return nil
}

// parts checks that specs, cancel rows and idempotency keys have their task.
func (c *checker) parts(ctx context.Context) error {
	for _, name := range []string{"spec", "cancel"} {
		err := c.scan(ctx, "HSCAN", c.db.key(name), func(ctx context.Context, ids []string) error {
			return c.owned(ctx, name, ids, ids)
		})
		if err != nil {
			return err
		}
	}
	return c.scan(ctx, "HSCAN", c.db.key("idem"), func(ctx context.Context, fields []string) error {
		values, err := c.db.readTexts(ctx, append([]any{"HMGET", c.db.key("idem")}, anys(fields)...)...)
		if err != nil {
			return err
		}
		ids := make([]string, len(values))
		for i := range values {
			ids[i] = idemTask(values[i])
		}
		return c.owned(ctx, "idem", fields, ids)
	})
}

// owned checks that the fields of a hash still there have a task.
func (c *checker) owned(ctx context.Context, name string, fields, ids []string) error {
	var have, rows *goredis.SliceCmd
	_, err := c.db.reader.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		have, rows = p.HMGet(ctx, c.db.key(name), fields...), p.HMGet(ctx, c.db.key("task"), ids...)
		return nil
	})
	if err != nil {
		return unavailable(ctx, "read parts", err)
	}
	for i := range fields {
		if text(have.Val()[i]) != "" && text(rows.Val()[i]) == "" {
			c.say("%s %q belongs to task %s, which is not there", name, fields[i], ids[i])
		}
	}
	return nil
}

// sessions checks that rows and order of the agent sessions agree.
func (c *checker) sessions(ctx context.Context) error {
	var rows, order *goredis.IntCmd
	_, err := c.db.reader.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		rows, order = p.HLen(ctx, c.db.key("agent")), p.ZCard(ctx, c.db.key("agents"))
		return nil
	})
	if err != nil {
		return unavailable(ctx, "read sessions", err)
	}
	if rows.Val() != order.Val() {
		c.say("%d agent sessions, %d in their order", rows.Val(), order.Val())
	}
	return c.scan(ctx, "ZSCAN", c.db.key("agents"), func(ctx context.Context, fields []string) error {
		have, err := c.db.readTexts(ctx, append([]any{"HMGET", c.db.key("agent")}, anys(fields)...)...)
		if err != nil {
			return err
		}
		for i := range fields {
			if have[i] == "" {
				c.say("agent session %q has no row", fields[i])
			}
		}
		return nil
	})
}

// log checks that the entries follow each other without a hole and end at the counter.
func (c *checker) log(ctx context.Context) error {
	end, err := c.db.LastSeq(ctx)
	if err != nil {
		return err
	}
	from, last := "-", int64(0)
	for {
		list, err := c.db.reader.XRangeN(ctx, c.db.key("log"), from, "+", logChunk).Result()
		if err != nil {
			return unavailable(ctx, "read the log", err)
		}
		if len(list) == 0 {
			break
		}
		for _, x := range list {
			p, err := decodePiece(x)
			if err != nil {
				return err
			}
			if last != 0 && p.first != last+1 {
				c.say("log: %d follows %d", p.first, last)
			}
			events, err := rows.ReadEvents(nil, p.first, []byte(p.entries), 0, maxPage)
			if err != nil || int64(len(events)) != p.last-p.first+1 {
				c.say("log: entry %s has %d events: %v", x.ID, len(events), err)
			}
			last, from = p.last, "("+x.ID
		}
	}
	if last != 0 && last < end {
		c.say("log ends at %d, the counter says %d", last, end)
	}
	return nil
}

func (r *row) failed() bool {
	return messages.TaskState(r.task[0]) > messages.Succeeded || r.task[rowFlags]&flagCode != 0
}
