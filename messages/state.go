package messages

import (
	"fmt"
	"slices"
)

// TaskState is the state of a task; the names are those of the public API.
type TaskState uint8

// States of a task.
const (
	Scheduled TaskState = iota + 1
	Queued
	Claimed
	Running
	Recovering
	RetryWait
	Cancelling
	Held
	Succeeded
	DeadLetter
	Cancelled
	Expired
)

var taskStateNames = []string{
	Scheduled: "scheduled", Queued: "queued", Claimed: "claimed", Running: "running",
	Recovering: "recovering", RetryWait: "retry_wait", Cancelling: "cancelling", Held: "held",
	Succeeded: "succeeded", DeadLetter: "dead_letter", Cancelled: "cancelled", Expired: "expired",
}

func (s TaskState) String() string { return stateName(taskStateNames, int(s)) }

// Terminal reports whether no owner will change the task any more. A dead
// letter leaves its state only by an operator's replay.
func (s TaskState) Terminal() bool { return s >= Succeeded }

// AtGateway reports whether a gateway owner holds the task, so that it counts
// against the gateway's window.
func (s TaskState) AtGateway() bool {
	return s == Claimed || s == Running || s == Recovering || s == Cancelling
}

// Waiting reports whether the pool owner holds the task before its assignment.
func (s TaskState) Waiting() bool { return s == Scheduled || s == Queued || s == RetryWait }

// BlocksSession reports whether the task keeps later tasks of its session from running.
func (s TaskState) BlocksSession() bool { return s.AtGateway() || s == RetryWait || s == Held }

// ParseTaskState returns the state with that name.
func ParseTaskState(name string) (TaskState, error) {
	i := slices.Index(taskStateNames, name)
	if i < 1 {
		return 0, fmt.Errorf("unknown task state %q: use one of %v", name, taskStateNames[1:])
	}
	return TaskState(i), nil
}

// TaskStateNames lists the names of all task states.
func TaskStateNames() []string { return slices.Clone(taskStateNames[1:]) }

// GatewayState is the state of a gateway as its owner sees it.
type GatewayState uint8

// States of a gateway.
const (
	GatewayRegistered GatewayState = iota + 1
	GatewayStarting
	GatewayConnecting
	GatewayReady
	GatewayDegraded
	GatewayUnreachable
	GatewayRecovering
	GatewayDraining
	GatewayDrained
	GatewayQuarantined
	GatewayRemoved
)

var gatewayStateNames = []string{
	GatewayRegistered: "registered", GatewayStarting: "starting", GatewayConnecting: "connecting",
	GatewayReady: "ready", GatewayDegraded: "degraded", GatewayUnreachable: "unreachable",
	GatewayRecovering: "recovering", GatewayDraining: "draining", GatewayDrained: "drained",
	GatewayQuarantined: "quarantined", GatewayRemoved: "removed",
}

func (s GatewayState) String() string { return stateName(gatewayStateNames, int(s)) }

// GatewayStateNames lists the names of all gateway states.
func GatewayStateNames() []string { return slices.Clone(gatewayStateNames[1:]) }

// SessionState is the state of an agent session.
type SessionState uint8

// States of an agent session.
const (
	SessionIdle SessionState = iota + 1
	SessionBusy
	SessionFailed
	SessionRecovering
	SessionParked
	SessionSuspended
	SessionMoving
	SessionClosed
	// SessionRemoved is in no row: to write it removes the row.
	SessionRemoved
)

var sessionStateNames = []string{
	SessionIdle: "idle", SessionBusy: "busy", SessionFailed: "failed", SessionRecovering: "recovering",
	SessionParked: "parked", SessionSuspended: "suspended", SessionMoving: "moving", SessionClosed: "closed",
	SessionRemoved: "removed",
}

func (s SessionState) String() string { return stateName(sessionStateNames, int(s)) }

func stateName(names []string, i int) string {
	if i < 1 || i >= len(names) {
		return fmt.Sprintf("state(%d)", i)
	}
	return names[i]
}
