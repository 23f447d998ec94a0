package redis

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// A task is kept in two parts, so that a change of state rewrites the small one.
//
// row:  state (1) claim (8) flags (1) rev (8) no (8) names (2-byte length,
// then 2-byte length and pool, then "tenant\0session" or nothing) tail
// spec: 2-byte length and tenant, then fields in protobuf encoding
//
// Numbers are big-endian. The scripts know all of the row but the tail.
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

// Fields of a row's tail and of a spec, in protobuf encoding; zero values are
// left out and unknown fields are skipped. Numbers are added, never used again.
const (
	tailAttempt protowire.Number = iota + 1
	tailReplays
	tailGen
	tailBoot
	tailObserved
	tailStopping
	tailConfirmed
	tailDue
	tailNotAfter
	tailClaimed
	tailStarted
	tailError  // dash.v1.TaskError
	tailResult // dash.v1.TaskResult
	tailSeq
	tailGateway
	tailFinished

	tailActive   protowire.Number = 55 // microseconds
	tailSince    protowire.Number = 56
	tailTrials   protowire.Number = 57 // dash.v1.Trials
	tailReplayer protowire.Number = 58
	tailReplayed protowire.Number = 59
)

const (
	specClass protowire.Number = iota + 1
	specSession
	specCreated
	specIdemKey
	specSpec // dash.v1.TaskSpec
	specIdemHash
)

// micros is how times are stored: microseconds since 1970, 0 for "not set".
func micros(t time.Time) int64 { return rows.Micros(t) }

func fromMicros(n int64) time.Time { return rows.FromMicros(n) }

func appendInt(b []byte, n protowire.Number, v int64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
}

func appendText(b []byte, n protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendMessage(b []byte, n protowire.Number, m proto.Message) ([]byte, error) {
	enc, err := rows.Append(nil, m)
	if err != nil {
		return nil, err
	}
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), enc), nil
}

// appendTail encodes what of t may change and no script looks at.
func appendTail(b []byte, t *messages.Task) ([]byte, error) {
	b = appendInt(b, tailSeq, t.Seq)
	b = appendInt(b, tailAttempt, int64(t.Attempt))
	b = appendInt(b, tailReplays, int64(t.Replays))
	b = appendInt(b, tailGen, t.Generation)
	b = appendInt(b, tailStopping, int64(t.Stopping))
	b = appendInt(b, tailConfirmed, int64(t.Cancel.Confirmed))
	b = appendInt(b, tailDue, micros(t.DueAt))
	b = appendInt(b, tailNotAfter, micros(t.NotAfter))
	b = appendInt(b, tailClaimed, micros(t.ClaimedAt))
	b = appendInt(b, tailStarted, micros(t.StartedAt))
	b = appendInt(b, tailFinished, micros(t.FinishedAt))
	b = appendInt(b, tailActive, t.Active.Microseconds())
	b = appendInt(b, tailSince, micros(t.ActiveSince))
	b = appendText(b, tailBoot, t.BootID)
	b = appendText(b, tailObserved, t.ObservedRunID)
	b = appendText(b, tailGateway, t.Gateway)
	b = appendInt(b, tailReplayed, micros(t.ReplayedAt))
	b = appendText(b, tailReplayer, t.ReplayedBy)
	var err error
	if t.Error != nil {
		if b, err = appendMessage(b, tailError, t.Error); err != nil {
			return nil, err
		}
	}
	if t.Trials != nil {
		if b, err = appendMessage(b, tailTrials, t.Trials); err != nil {
			return nil, err
		}
	}
	if t.Result != nil {
		b, err = appendMessage(b, tailResult, t.Result)
	}
	return b, err
}

// appendSpec encodes what of a task never changes.
func appendSpec(b []byte, t *messages.Task, idemKey string, idemHash []byte) ([]byte, error) {
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(t.Tenant))), t.Tenant...)
	b = appendInt(b, specClass, int64(t.Class))
	b = appendText(b, specSession, t.Session)
	b = appendInt(b, specCreated, micros(t.CreatedAt))
	b = appendText(b, specIdemKey, idemKey)
	if len(idemHash) > 0 {
		b = protowire.AppendBytes(protowire.AppendTag(b, specIdemHash, protowire.BytesType), idemHash)
	}
	if t.Spec == nil {
		return b, nil
	}
	return appendMessage(b, specSpec, t.Spec)
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
	if err := fields([]byte(r.task[names.end:]), tailField{&t}.set); err != nil {
		return t, "", nil, fmt.Errorf("task %s: decode row: %w", r.id, err)
	}
	n := 0
	if len(r.spec) >= 2 {
		n = int(binary.BigEndian.Uint16([]byte(r.spec[:2])))
	}
	if len(r.spec) < 2+n {
		return t, "", nil, errRow(r.id, "its spec is cut")
	}
	t.Tenant = r.spec[2 : 2+n]
	s := specField{t: &t}
	if err := fields([]byte(r.spec[2+n:]), s.set); err != nil {
		return t, "", nil, fmt.Errorf("task %s: decode spec: %w", r.id, err)
	}
	return t, s.key, s.hash, nil
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

// fields calls set for each field; set gets a number or bytes.
func fields(b []byte, set func(n protowire.Number, v int64, raw []byte) error) error {
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		var v uint64
		var raw []byte
		switch typ {
		case protowire.VarintType:
			v, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			raw, size = protowire.ConsumeBytes(b)
		default:
			size = protowire.ConsumeFieldValue(n, typ, b)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := set(n, int64(v), raw); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

type tailField struct{ t *messages.Task }

func (f tailField) set(n protowire.Number, v int64, raw []byte) error {
	t := f.t
	switch n {
	case tailSeq:
		t.Seq = v
	case tailAttempt:
		t.Attempt = int32(v)
	case tailReplays:
		t.Replays = int32(v)
	case tailGen:
		t.Generation = v
	case tailStopping:
		t.Stopping = messages.StopReason(v)
	case tailConfirmed:
		t.Cancel.Confirmed = messages.Confirmation(v)
	case tailDue:
		t.DueAt = fromMicros(v)
	case tailNotAfter:
		t.NotAfter = fromMicros(v)
	case tailClaimed:
		t.ClaimedAt = fromMicros(v)
	case tailStarted:
		t.StartedAt = fromMicros(v)
	case tailFinished:
		t.FinishedAt = fromMicros(v)
	case tailActive:
		t.Active = time.Duration(v) * time.Microsecond
	case tailSince:
		t.ActiveSince = fromMicros(v)
	case tailTrials:
		t.Trials = &messages.Trials{}
		return proto.Unmarshal(raw, t.Trials)
	case tailBoot:
		t.BootID = string(raw)
	case tailObserved:
		t.ObservedRunID = string(raw)
	case tailGateway:
		t.Gateway = string(raw)
	case tailReplayed:
		t.ReplayedAt = fromMicros(v)
	case tailReplayer:
		t.ReplayedBy = string(raw)
	case tailError:
		t.Error = &messages.TaskError{}
		return proto.Unmarshal(raw, t.Error)
	case tailResult:
		t.Result = &messages.TaskResult{}
		return proto.Unmarshal(raw, t.Result)
	}
	return nil
}

type specField struct {
	t    *messages.Task
	key  string
	hash []byte
}

func (f *specField) set(n protowire.Number, v int64, raw []byte) error {
	switch n {
	case specClass:
		f.t.Class = messages.Class(v)
	case specSession:
		f.t.Session = string(raw)
	case specCreated:
		f.t.CreatedAt = fromMicros(v)
	case specIdemKey:
		f.key = string(raw)
	case specIdemHash:
		f.hash = raw
	case specSpec:
		f.t.Spec = &messages.TaskSpec{}
		return proto.Unmarshal(raw, f.t.Spec)
	}
	return nil
}
