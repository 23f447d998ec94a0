package wire

import (
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dash-fleet/dash/messages"
)

// EncodeTask packs a whole task, for stores that keep it in one place.
func EncodeTask(t *messages.Task) ([]byte, error) { return Marshal(fromTask(t)) }

// DecodeTask is the inverse of EncodeTask.
func DecodeTask(b []byte) (messages.Task, error) {
	var m Task
	if err := proto.Unmarshal(b, &m); err != nil {
		return messages.Task{}, fmt.Errorf("decode task %s: %w", m.Id, err)
	}
	return m.value(), nil
}

// EncodeRun packs the fields of a task that no query asks for, for stores with
// columns for the others.
func EncodeRun(t *messages.Task) ([]byte, error) {
	m := spare.Get().(*Run)
	defer m.back()
	m.fill(t)
	return Append(make([]byte, 0, 128), m)
}

// DecodeRun sets what EncodeRun wrote, and no other field.
func DecodeRun(t *messages.Task, b []byte) error {
	m := spare.Get().(*Run)
	defer m.back()
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("decode run: %w", err)
	}
	m.set(t)
	return nil
}

// AppendRow packs what may change of a task, but for what a store with scripts in
// place of columns keeps for those.
func AppendRow(b []byte, t *messages.Task) ([]byte, error) {
	m := spare.Get().(*Run)
	defer m.back()
	m.fill(t)
	m.Seq, m.Gateway, m.Finished = t.Seq, t.Gateway, messages.Micros(t.FinishedAt)
	return Append(b, m)
}

// DecodeRow sets what AppendRow wrote, and no other field.
func DecodeRow(t *messages.Task, b []byte) error {
	m := spare.Get().(*Run)
	defer m.back()
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("decode row: %w", err)
	}
	m.set(t)
	t.Seq, t.Gateway, t.FinishedAt = m.Seq, m.Gateway, messages.FromMicros(m.Finished)
	return nil
}

// AppendOrder packs what of a task never changes, but for its id, tenant and pool.
func AppendOrder(b []byte, t *messages.Task, idemKey string, idemHash []byte) ([]byte, error) {
	return Append(b, &Order{
		Class: uint32(t.Class), Session: t.Session, Created: messages.Micros(t.CreatedAt), IdemKey: idemKey, IdemHash: idemHash, Spec: t.Spec,
	})
}

// DecodeOrder sets what AppendOrder wrote, and no other field.
func DecodeOrder(t *messages.Task, b []byte) (idemKey string, idemHash []byte, err error) {
	var m Order
	if err := proto.Unmarshal(b, &m); err != nil {
		return "", nil, fmt.Errorf("decode order: %w", err)
	}
	t.Class, t.Session, t.CreatedAt, t.Spec = messages.Class(m.Class), m.Session, messages.FromMicros(m.Created), m.Spec
	return m.IdemKey, m.IdemHash, nil
}

func fromTask(t *messages.Task) *Task {
	m := &Task{
		Id: t.ID, Tenant: t.Tenant, Pool: t.Pool, Class: uint32(t.Class), Seq: t.Seq, State: uint32(t.State), Claim: t.Claim,
		Session: t.Session, Gateway: t.Gateway, Spec: t.Spec, Run: new(Run),
		CancelRequested: messages.Micros(t.Cancel.RequestedAt), CancelReason: t.Cancel.Reason,
		Created: messages.Micros(t.CreatedAt), Finished: messages.Micros(t.FinishedAt),
	}
	m.Run.fill(t)
	if t.Brief != nil {
		m.Brief = &Brief{Message: t.Brief.Message, Text: t.Brief.Text}
	}
	return m
}

func (m *Task) value() messages.Task {
	t := messages.Task{
		ID: m.GetId(), Tenant: m.GetTenant(), Pool: m.GetPool(), Class: messages.Class(m.GetClass()), Seq: m.GetSeq(),
		State: messages.TaskState(m.GetState()), Claim: m.GetClaim(), Session: m.GetSession(), Gateway: m.GetGateway(), Spec: m.GetSpec(),
		Cancel:    messages.Cancel{RequestedAt: messages.FromMicros(m.GetCancelRequested()), Reason: m.GetCancelReason()},
		CreatedAt: messages.FromMicros(m.GetCreated()), FinishedAt: messages.FromMicros(m.GetFinished()),
	}
	if b := m.GetBrief(); b != nil {
		t.Brief = &messages.Brief{Message: b.Message, Text: b.Text}
	}
	m.GetRun().set(&t)
	return t
}

// spare holds what every step of every task needs for a moment.
var spare = sync.Pool{New: func() any { return new(Run) }}

func (m *Run) back() {
	m.Reset()
	spare.Put(m)
}

func (m *Run) fill(t *messages.Task) {
	m.Attempt, m.Replays, m.ReplayedBy, m.Replayed = t.Attempt, t.Replays, t.ReplayedBy, messages.Micros(t.ReplayedAt)
	m.Generation, m.BootId, m.ObservedRunId = t.Generation, t.BootID, t.ObservedRunID
	m.Stopping, m.CancelConfirmed = uint32(t.Stopping), uint32(t.Cancel.Confirmed)
	m.Result, m.Error, m.Trials = t.Result, t.Error, t.Trials
	m.Active, m.ActiveSince = t.Active.Microseconds(), messages.Micros(t.ActiveSince)
	m.Due, m.NotAfter = messages.Micros(t.DueAt), messages.Micros(t.NotAfter)
	m.Claimed, m.Started = messages.Micros(t.ClaimedAt), messages.Micros(t.StartedAt)
}

func (m *Run) set(t *messages.Task) {
	t.Attempt, t.Replays, t.ReplayedBy, t.ReplayedAt = m.GetAttempt(), m.GetReplays(), m.GetReplayedBy(), messages.FromMicros(m.GetReplayed())
	t.Generation, t.BootID, t.ObservedRunID = m.GetGeneration(), m.GetBootId(), m.GetObservedRunId()
	t.Stopping, t.Cancel.Confirmed = messages.StopReason(m.GetStopping()), messages.Confirmation(m.GetCancelConfirmed())
	t.Result, t.Error, t.Trials = m.GetResult(), m.GetError(), m.GetTrials()
	t.Active, t.ActiveSince = time.Duration(m.GetActive())*time.Microsecond, messages.FromMicros(m.GetActiveSince())
	t.DueAt, t.NotAfter = messages.FromMicros(m.GetDue()), messages.FromMicros(m.GetNotAfter())
	t.ClaimedAt, t.StartedAt = messages.FromMicros(m.GetClaimed()), messages.FromMicros(m.GetStarted())
}
