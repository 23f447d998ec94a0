package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/dash-fleet/dash/messages"
)

// Change is the row of the audit log of a request that changes something. Who
// carries it out says what was before and after, and may put the row into the
// change's own transaction; else it is written before the answer leaves.
type Change struct {
	c             *call
	target        string
	before, after map[string]any
	kept          atomic.Bool
}

type changeKey struct{}

// ChangeOf is the change that a command is part of, nil for none.
func ChangeOf(ctx context.Context) *Change {
	c, _ := ctx.Value(changeKey{}).(*Change)
	return c
}

// Row is the row with what differs between before and after, which hold no
// secret; nil stands for a thing that is not there.
func (ch *Change) Row(target string, before, after map[string]any) AuditRow {
	ch.target = target
	ch.before, ch.after = differing(before, after), differing(after, before)
	return ch.row()
}

// Keep says that the row is in the log, or that nothing was changed. On nil it
// does nothing.
func (ch *Change) Keep() {
	if ch != nil {
		ch.kept.Store(true)
	}
}

func (ch *Change) row() AuditRow {
	c := ch.c
	return AuditRow{
		Time: messages.Now(), Tenant: c.tenant(), Actor: c.principal.ID, Action: c.op.id, Target: cmp.Or(c.param, ch.target, c.made),
		RequestID: c.id, Detail: c.auditDetail(ch),
	}
}

// differing are the entries of a that b does not have.
func differing(a, b map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range a {
		if other, there := b[k]; there && reflect.DeepEqual(v, other) {
			continue
		}
		out[k] = shortened(v)
	}
	return out
}

// shortened is what is kept of a value: all of it, or its beginning and a digest.
func shortened(v any) any {
	b, err := json.Marshal(v)
	if err != nil || len(b) <= maxAuditText {
		return v
	}
	return map[string]any{"begins": strings.ToValidUTF8(string(b[:maxAuditText]), ""), "sha256": fmt.Sprintf("%x", sha256.Sum256(b))}
}

// audited makes the success of a handler go into the audit log.
func (c *call) audited(h handler) handler {
	return func(c *call) error {
		c.change = &Change{c: c}
		c.r = c.r.WithContext(context.WithValue(c.r.Context(), changeKey{}, c.change))
		return h(c)
	}
}

// recordChange is called once per answer, before it leaves.
func (c *call) recordChange() {
	if c.change == nil || c.status >= 300 || c.change.kept.Load() {
		return
	}
	c.s.audit.record(c.ctx(), c.change.row())
}

// auditDetail is the query and the body, without the values of fields that the
// document does not name as fit to be kept, and what became of it.
func (c *call) auditDetail(ch *Change) string {
	detail := map[string]any{}
	for name := range c.query {
		detail[name] = c.query.Get(name)
	}
	tree, err := parse(c.raw)
	body, _ := tree.(map[string]any)
	if err == nil {
		for name, v := range body {
			detail[name] = nil
			if kept(c.op, name) && short(v) {
				detail[name] = v
			}
		}
	}
	if len(ch.before) > 0 {
		detail["before"] = ch.before
	}
	if len(ch.after) > 0 {
		detail["after"] = ch.after
	}
	if len(detail) == 0 {
		return ""
	}
	b, err := json.Marshal(detail)
	if err != nil {
		return "" // of JSON values, which always encode
	}
	return string(b)
}
