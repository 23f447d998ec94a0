package redis

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/wire"
	"google.golang.org/protobuf/encoding/protowire"
)

// A task is kept in two parts, so that a change of state rewrites the small one.
//
// row:  state (1) claim (8) flags (1) rev (8) no (8) names (2-byte length,
// then 2-byte length and pool, then "tenant\0session" or nothing) wire.AppendRow
// spec: 2-byte length and tenant, then wire.AppendOrder
//
// Numbers are big-endian. The scripts know all of the row but what wire.AppendRow writes.
const (
	rowFlags = 9
	rowRev   = 10
	rowNo    = 18
	rowNames = 26
	rowPool  = 28

	flagCancel  = 1 // the cancel row exists
	flagSession = 2 // the task belongs to a session
	flagCode    = 4 // the task has an error code
)

// The fields that a list leaves a long text out of, see brief.go.
const (
	tailResult protowire.Number = 13 // wire.Run.result
	specSpec   protowire.Number = 5  // wire.Order.spec
)

// micros is how times are stored: microseconds since 1970, 0 for "not set".
func micros(t time.Time) int64 { return messages.Micros(t) }

func fromMicros(n int64) time.Time { return messages.FromMicros(n) }

// appendSpec encodes what of a task never changes.
func appendSpec(b []byte, t *messages.Task, idemKey string, idemHash []byte) ([]byte, error) {
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(t.Tenant))), t.Tenant...)
	return wire.AppendOrder(b, t, idemKey, idemHash)
}

// appendNames encodes the names that the scripts need to keep the indexes.
func appendNames(b []byte, t *messages.Task) []byte {
	key := ""
	if t.Session != "" {
		key = sessionField(t.Tenant, t.Session)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(2+len(t.Pool)+len(key)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.Pool)))
	return append(append(b, t.Pool...), key...)
}

func sessionField(tenant, session string) string { return tenant + "\x00" + session }

// row is a task as the server keeps it.
type row struct {
	id                string
	task, spec, cntrl string // cntrl is the cancel row
}

func (r *row) no() int64  { return int64(binary.BigEndian.Uint64([]byte(r.task[rowNo:rowNames]))) }
func (r *row) rev() int64 { return int64(binary.BigEndian.Uint64([]byte(r.task[rowRev:rowNo]))) }

// errRow says that a row is not one that this package wrote.
func errRow(id, why string) error {
	return fmt.Errorf("task %q: its row in redis is damaged: %s", id, why)
}

// decode returns the task; key and hash are those of its idempotency key.
func (r *row) decode() (t messages.Task, key string, hash []byte, err error) {
	names, err := r.names()
	if err != nil {
		return t, "", nil, err
	}
	t = messages.Task{ID: r.id, State: messages.TaskState(r.task[0]), Claim: int64(binary.BigEndian.Uint64([]byte(r.task[1:9]))), Pool: names.pool}
	if r.task[rowFlags]&flagCancel != 0 {
		if len(r.cntrl) < 8 {
			return t, "", nil, errRow(r.id, "its cancel flag has no row")
		}
		t.Cancel.RequestedAt = fromMicros(int64(binary.BigEndian.Uint64([]byte(r.cntrl[:8]))))
		t.Cancel.Reason = r.cntrl[8:]
	}
	if err := wire.DecodeRow(&t, []byte(r.task[names.end:])); err != nil {
		return t, "", nil, fmt.Errorf("task %s: %w", r.id, err)
	}
	n := 0
	if len(r.spec) >= 2 {
		n = int(binary.BigEndian.Uint16([]byte(r.spec[:2])))
	}
	if len(r.spec) < 2+n {
		return t, "", nil, errRow(r.id, "its spec is cut")
	}
	t.Tenant = r.spec[2 : 2+n]
	if key, hash, err = wire.DecodeOrder(&t, []byte(r.spec[2+n:])); err != nil {
		return t, "", nil, fmt.Errorf("task %s: %w", r.id, err)
	}
	return t, key, hash, nil
}

type names struct {
	pool, session string // session is "tenant\0session"
	end           int
}

func (r *row) names() (names, error) {
	if len(r.task) < rowPool+2 {
		return names{}, errRow(r.id, "it is too short")
	}
	end := rowPool + int(binary.BigEndian.Uint16([]byte(r.task[rowNames:rowPool])))
	pool := rowPool + 2 + int(binary.BigEndian.Uint16([]byte(r.task[rowPool:rowPool+2])))
	if pool > end || end > len(r.task) {
		return names{}, errRow(r.id, "its names are cut")
	}
	return names{r.task[rowPool+2 : pool], r.task[pool:end], end}, nil
}

func (r *row) open() bool { return !messages.TaskState(r.task[0]).Terminal() }
