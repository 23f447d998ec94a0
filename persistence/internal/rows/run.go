package rows

import (
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The fields of tasks.run, in protobuf encoding; zero values are left out and
// unknown fields are skipped. Numbers are added, never used again.
const (
	runAttempt   protowire.Number = 1
	runReplays   protowire.Number = 2
	runGen       protowire.Number = 3
	runBoot      protowire.Number = 4
	runObserved  protowire.Number = 5
	runStopping  protowire.Number = 6
	runConfirmed protowire.Number = 7
	runDue       protowire.Number = 8
	runNotAfter  protowire.Number = 9
	runClaimed   protowire.Number = 10
	runStarted   protowire.Number = 11
	runError     protowire.Number = 12 // dash.v1.TaskError
	runResult    protowire.Number = 13 // dash.v1.TaskResult
	runActive    protowire.Number = 55 // microseconds
	runSince     protowire.Number = 56
	runTrials    protowire.Number = 57 // dash.v1.Trials
	runReplayer  protowire.Number = 58
	runReplayed  protowire.Number = 59
)

// EncodeRun packs the fields of a task that no query asks for.
func EncodeRun(t *messages.Task) ([]byte, error) {
	b := make([]byte, 0, 128)
	for _, f := range [...]field{
		{runAttempt, int64(t.Attempt)}, {runReplays, int64(t.Replays)}, {runGen, t.Generation}, {runStopping, int64(t.Stopping)},
		{runConfirmed, int64(t.Cancel.Confirmed)}, {runDue, Micros(t.DueAt)}, {runNotAfter, Micros(t.NotAfter)},
		{runClaimed, Micros(t.ClaimedAt)}, {runStarted, Micros(t.StartedAt)},
		{runActive, t.Active.Microseconds()}, {runSince, Micros(t.ActiveSince)},
		{runReplayed, Micros(t.ReplayedAt)},
	} {
		b = f.append(b)
	}
	if t.BootID != "" {
		b = protowire.AppendString(protowire.AppendTag(b, runBoot, protowire.BytesType), t.BootID)
	}
	if t.ObservedRunID != "" {
		b = protowire.AppendString(protowire.AppendTag(b, runObserved, protowire.BytesType), t.ObservedRunID)
	}
	if t.ReplayedBy != "" {
		b = protowire.AppendString(protowire.AppendTag(b, runReplayer, protowire.BytesType), t.ReplayedBy)
	}
	var err error
	if t.Error != nil {
		if b, err = appendMessage(b, runError, t.Error); err != nil {
			return nil, err
		}
	}
	if t.Trials != nil {
		if b, err = appendMessage(b, runTrials, t.Trials); err != nil {
			return nil, err
		}
	}
	if t.Result != nil {
		b, err = appendMessage(b, runResult, t.Result)
	}
	return b, err
}

// DecodeRun sets what EncodeRun wrote; it keeps no part of b.
func DecodeRun(t *messages.Task, b []byte) error {
	err := fields(b, func(n protowire.Number, v int64) { setRunNumber(t, n, v) }, func(n protowire.Number, v []byte) error { return setRunBytes(t, n, v) })
	if err != nil {
		return fmt.Errorf("decode run: %w", err)
	}
	return nil
}

func setRunNumber(t *messages.Task, n protowire.Number, v int64) {
	switch n {
	case runAttempt:
		t.Attempt = int32(v)
	case runReplays:
		t.Replays = int32(v)
	case runGen:
		t.Generation = v
	case runStopping:
		t.Stopping = messages.StopReason(v)
	case runConfirmed:
		t.Cancel.Confirmed = messages.Confirmation(v)
	case runDue:
		t.DueAt = FromMicros(v)
	case runNotAfter:
		t.NotAfter = FromMicros(v)
	case runClaimed:
		t.ClaimedAt = FromMicros(v)
	case runStarted:
		t.StartedAt = FromMicros(v)
	case runActive:
		t.Active = time.Duration(v) * time.Microsecond
	case runSince:
		t.ActiveSince = FromMicros(v)
	case runReplayed:
		t.ReplayedAt = FromMicros(v)
	}
}

func setRunBytes(t *messages.Task, n protowire.Number, v []byte) error {
	switch n {
	case runBoot:
		t.BootID = string(v)
	case runObserved:
		t.ObservedRunID = string(v)
	case runReplayer:
		t.ReplayedBy = string(v)
	case runError:
		t.Error = &messages.TaskError{}
		return proto.Unmarshal(v, t.Error)
	case runTrials:
		t.Trials = &messages.Trials{}
		return proto.Unmarshal(v, t.Trials)
	case runResult:
		t.Result = &messages.TaskResult{}
		return proto.Unmarshal(v, t.Result)
	}
	return nil
}
