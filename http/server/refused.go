package server

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Bounds of what refused requests leave in the audit log: a person finds his
// own, and a flood of them does not fill the store. A row holds some 300 bytes.
const (
	// refusedWindow is how long refusals of one kind are counted as one.
	refusedWindow = time.Minute
	// maxRefused bounds the kinds that are told apart in a window.
	maxRefused = 256
	// refusedBurst rows may come at once, then one every refusedPace.
	refusedBurst = 60
	refusedPace  = 10 * time.Second
)

// refusedKind is what makes two refusals the same.
type refusedKind struct {
	tenant, actor, action, address string
	status                         int
}

type refusedCount struct {
	row   AuditRow // of the first
	code  messages.Code
	times int // since a row told of them
	told  bool
}

// refusedLog collects refused requests for the audit log. Nobody waits for it.
type refusedLog struct {
	mu      sync.Mutex
	began   time.Time // of the window
	kinds   map[refusedKind]*refusedCount
	unnamed int // refusals that get no row of their own
	rows    float64
	filled  time.Time
}

// note counts a refusal.
func (l *refusedLog) note(k refusedKind, code messages.Code, row AuditRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kinds == nil {
		l.kinds, l.began = map[refusedKind]*refusedCount{}, row.Time
	}
	if n := l.kinds[k]; n != nil {
		n.times++
		return
	}
	if len(l.kinds) >= maxRefused {
		l.unnamed++
		return
	}
	l.kinds[k] = &refusedCount{row: row, code: code, times: 1}
}

// due takes the rows that are to be written now: the first refusal of each kind
// at once, and at the window's end, or last, how often it was repeated.
func (l *refusedLog) due(now time.Time, last bool) (rows []AuditRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := last || now.Sub(l.began) >= refusedWindow
	for k, n := range l.kinds {
		if n.times == 0 || n.told && !end {
			continue
		}
		if !l.take(now) {
			if end {
				l.unnamed += n.times
			}
			continue
		}
		rows = append(rows, n.said(k, now))
		n.told, n.times = true, 0
	}
	if end {
		if l.unnamed > 0 {
			rows = append(rows, AuditRow{Time: messages.Now(), Actor: "system", Action: "refused", Detail: refusedDetail(map[string]any{"times": l.unnamed})})
		}
		l.kinds, l.unnamed = nil, 0
	}
	return rows
}

func (n *refusedCount) said(k refusedKind, now time.Time) AuditRow {
	row := n.row
	if n.told {
		row.Time, row.Target, row.RequestID = now.UTC().Truncate(time.Microsecond), "", ""
	}
	row.Detail = refusedDetail(map[string]any{"refused": k.status, "code": n.code, "address": k.address, "times": n.times})
	return row
}

func refusedDetail(v map[string]any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "" // of texts and numbers, which always encode
	}
	return string(b)
}

// take spends a row, if there is one left.
func (l *refusedLog) take(now time.Time) bool {
	if l.filled.IsZero() {
		l.rows, l.filled = refusedBurst, now
	}
	l.rows = min(refusedBurst, l.rows+now.Sub(l.filled).Seconds()/refusedPace.Seconds())
	l.filled = now
	if l.rows < 1 {
		return false
	}
	l.rows--
	return true
}

// recordRefusal puts into the audit log who was not let in, and which changes
// were refused.
func (c *call) recordRefusal(status int, code messages.Code) {
	denied := status == http.StatusUnauthorized || status == http.StatusForbidden
	if c.op == nil || status >= http.StatusInternalServerError || !denied && (!c.op.audited || c.principal == nil) {
		return
	}
	k := refusedKind{actor: "anonymous", action: c.op.id, address: c.s.address(c.r).String(), status: status}
	if c.principal != nil {
		k.tenant, k.actor = c.principal.Tenant, c.principal.ID
	}
	target := c.param
	if messages.CheckID(target) != nil {
		target = ""
	}
	c.s.audit.refused.note(k, code, AuditRow{
		Time: messages.Now(), Tenant: k.tenant, Actor: k.actor, Action: k.action, Target: target, RequestID: c.id,
	})
}
