package rows

import (
	"fmt"

	"github.com/dash-fleet/dash/messages"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The fields of a whole task as EncodeTask writes them. Numbers are added,
// never used again.
const (
	taskID       protowire.Number = 1
	taskTenant   protowire.Number = 2
	taskPool     protowire.Number = 3
	taskSession  protowire.Number = 4
	taskGateway  protowire.Number = 5
	taskReason   protowire.Number = 6 // of its cancel
	taskSpec     protowire.Number = 7 // dash.v1.TaskSpec
	taskRun      protowire.Number = 8 // EncodeRun
	taskClass    protowire.Number = 9
	taskState    protowire.Number = 10
	taskSeq      protowire.Number = 11
	taskClaim    protowire.Number = 12
	taskCreated  protowire.Number = 13
	taskCancel   protowire.Number = 14
	taskFinished protowire.Number = 15
)

// EncodeTask packs a whole task, for engines that keep it in one place.
func EncodeTask(t *messages.Task) ([]byte, error) {
	run, err := EncodeRun(t)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, 256+len(run))
	for _, f := range [...]struct {
		n protowire.Number
		v string
	}{{taskID, t.ID}, {taskTenant, t.Tenant}, {taskPool, t.Pool}, {taskSession, t.Session}, {taskGateway, t.Gateway}, {taskReason, t.Cancel.Reason}} {
		if f.v != "" {
			b = protowire.AppendString(protowire.AppendTag(b, f.n, protowire.BytesType), f.v)
		}
	}
	for _, f := range [...]field{
		{taskClass, int64(t.Class)}, {taskState, int64(t.State)}, {taskSeq, t.Seq}, {taskClaim, t.Claim},
		{taskCreated, Micros(t.CreatedAt)}, {taskCancel, Micros(t.Cancel.RequestedAt)}, {taskFinished, Micros(t.FinishedAt)},
	} {
		b = f.append(b)
	}
	if t.Spec != nil {
		if b, err = appendMessage(b, taskSpec, t.Spec); err != nil {
			return nil, err
		}
	}
	return protowire.AppendBytes(protowire.AppendTag(b, taskRun, protowire.BytesType), run), nil
}

// DecodeTask is the inverse of EncodeTask; the task keeps no part of b.
func DecodeTask(b []byte) (messages.Task, error) {
	var t messages.Task
	err := fields(b, func(n protowire.Number, v int64) { setTaskNumber(&t, n, v) }, func(n protowire.Number, v []byte) error { return setTaskBytes(&t, n, v) })
	if err != nil {
		return t, fmt.Errorf("decode task %s: %w", t.ID, err)
	}
	return t, nil
}

func setTaskNumber(t *messages.Task, n protowire.Number, v int64) {
	switch n {
	case taskClass:
		t.Class = messages.Class(v)
	case taskState:
		t.State = messages.TaskState(v)
	case taskSeq:
		t.Seq = v
	case taskClaim:
		t.Claim = v
	case taskCreated:
		t.CreatedAt = FromMicros(v)
	case taskCancel:
		t.Cancel.RequestedAt = FromMicros(v)
	case taskFinished:
		t.FinishedAt = FromMicros(v)
	}
}

func setTaskBytes(t *messages.Task, n protowire.Number, v []byte) error {
	switch n {
	case taskID:
		t.ID = string(v)
	case taskTenant:
		t.Tenant = string(v)
	case taskPool:
		t.Pool = string(v)
	case taskSession:
		t.Session = string(v)
	case taskGateway:
		t.Gateway = string(v)
	case taskReason:
		t.Cancel.Reason = string(v)
	case taskSpec:
		t.Spec = &messages.TaskSpec{}
		return proto.Unmarshal(v, t.Spec)
	case taskRun:
		return DecodeRun(t, v)
	}
	return nil
}
