package messages

// A Transition is one row of a state table: in state From, Event leads to To.
// From is 0 for the birth of the thing. DESIGN.md draws the same rows; a test
// keeps the two equal.
type Transition[S comparable] struct {
	From  S
	Event string
	To    S
}

// TaskTransitions are all lawful changes of a task.
var TaskTransitions = []Transition[TaskState]{
	{0, "submit", Queued}, {0, "submit_later", Scheduled},

	{Scheduled, "due", Queued}, {RetryWait, "due", Queued},
	{Scheduled, "cancel", Cancelled}, {Queued, "cancel", Cancelled}, {RetryWait, "cancel", Cancelled},
	{Scheduled, "not_after", Expired}, {Queued, "not_after", Expired}, {RetryWait, "not_after", Expired},
	{Queued, "claim", Claimed},

	{Claimed, "refused", Queued}, {Claimed, "cancel_unsent", Cancelled},
	{Claimed, "accepted", Running},

	{Claimed, "success", Succeeded}, {Running, "success", Succeeded}, {Recovering, "success", Succeeded},
	{Claimed, "retryable_error", RetryWait}, {Running, "retryable_error", RetryWait}, {Recovering, "retryable_error", RetryWait},
	{Claimed, "provider_paused", RetryWait}, {Running, "provider_paused", RetryWait},
	{Claimed, "final_error", DeadLetter}, {Running, "final_error", DeadLetter}, {Recovering, "final_error", DeadLetter},

	{Claimed, "boot_changed", Recovering}, {Running, "boot_changed", Recovering},
	{Recovering, "rerun_seen", Running}, {Recovering, "accepted", Running}, {Recovering, "grace_over", Claimed},
	{Recovering, "boot_changed", Recovering}, {Recovering, "alone", Claimed}, {Recovering, "gateway_crashed", DeadLetter}, {Claimed, "gateway_crashed", DeadLetter},

	{Claimed, "stop", Cancelling}, {Running, "stop", Cancelling}, {Recovering, "stop", Cancelling},
	{Cancelling, "success", Succeeded}, {Cancelling, "stopped", Cancelled}, {Cancelling, "unconfirmed", Cancelled},
	{Cancelling, "deadline_retry", RetryWait}, {Cancelling, "deadline_final", DeadLetter},

	{Claimed, "away_requeue", Queued}, {Running, "away_requeue", Queued}, {Recovering, "away_requeue", Queued},
	{Claimed, "away_hold", Held}, {Running, "away_hold", Held}, {Recovering, "away_hold", Held},
	{Claimed, "given_up", DeadLetter}, {Running, "given_up", DeadLetter}, {Recovering, "given_up", DeadLetter},

	{Held, "requeue", Queued}, {Held, "fail", DeadLetter}, {Held, "proof", Succeeded},
	{Held, "cancel", Cancelled}, {Held, "outcome_unknown", DeadLetter},

	{DeadLetter, "replay", Queued},
}

// GatewayTransitions are all lawful changes of a gateway.
var GatewayTransitions = []Transition[GatewayState]{
	{0, "register", GatewayRegistered},
	{GatewayRegistered, "start", GatewayStarting}, {GatewayRegistered, "connect", GatewayConnecting},
	{GatewayRegistered, "drained", GatewayDrained}, {GatewayRegistered, "elsewhere", GatewayUnreachable},
	{GatewayStarting, "connect", GatewayConnecting}, {GatewayStarting, "start_failed", GatewayUnreachable},
	{GatewayStarting, "give_up", GatewayQuarantined}, {GatewayStarting, "drained", GatewayDrained},
	{GatewayConnecting, "drained", GatewayDrained},
	{GatewayConnecting, "hello", GatewayReady}, {GatewayConnecting, "boot_changed", GatewayRecovering},
	{GatewayConnecting, "drain", GatewayDraining},
	{GatewayConnecting, "lost", GatewayUnreachable}, {GatewayConnecting, "refused", GatewayQuarantined},
	{GatewayConnecting, "elsewhere", GatewayUnreachable},
	{GatewayStarting, "elsewhere", GatewayUnreachable},
	{GatewayRecovering, "settled", GatewayReady}, {GatewayRecovering, "lost", GatewayUnreachable},
	{GatewayRecovering, "drain", GatewayDraining}, {GatewayRecovering, "drained", GatewayDrained},
	{GatewayReady, "slow", GatewayDegraded}, {GatewayDegraded, "healthy", GatewayReady},
	{GatewayReady, "lost", GatewayUnreachable}, {GatewayDegraded, "lost", GatewayUnreachable},
	{GatewayUnreachable, "connect", GatewayConnecting}, {GatewayUnreachable, "start", GatewayStarting},
	{GatewayUnreachable, "hello", GatewayReady}, {GatewayUnreachable, "boot_changed", GatewayRecovering},
	{GatewayUnreachable, "drain", GatewayDraining},
	{GatewayUnreachable, "give_up", GatewayQuarantined}, {GatewayUnreachable, "refused", GatewayQuarantined}, {GatewayUnreachable, "drained", GatewayDrained},
	{GatewayReady, "drain", GatewayDraining}, {GatewayDegraded, "drain", GatewayDraining},
	{GatewayDraining, "drained", GatewayDrained}, {GatewayDraining, "resume", GatewayReady},
	{GatewayDraining, "lost", GatewayUnreachable},
	{GatewayDrained, "resume", GatewayReady}, {GatewayDrained, "connect", GatewayConnecting},
	{GatewayDrained, "start", GatewayStarting}, {GatewayDrained, "elsewhere", GatewayUnreachable},
	{GatewayDrained, "lost", GatewayUnreachable},
	{GatewayQuarantined, "connect", GatewayConnecting}, {GatewayQuarantined, "start", GatewayStarting},
	{GatewayQuarantined, "drained", GatewayDrained}, {GatewayQuarantined, "elsewhere", GatewayUnreachable},
	{GatewayRegistered, "remove", GatewayRemoved}, {GatewayStarting, "remove", GatewayRemoved},
	{GatewayConnecting, "remove", GatewayRemoved}, {GatewayReady, "remove", GatewayRemoved},
	{GatewayDegraded, "remove", GatewayRemoved}, {GatewayUnreachable, "remove", GatewayRemoved},
	{GatewayRecovering, "remove", GatewayRemoved}, {GatewayDraining, "remove", GatewayRemoved},
	{GatewayDrained, "remove", GatewayRemoved}, {GatewayQuarantined, "remove", GatewayRemoved},
}

// SessionTransitions are all lawful changes of an agent session. FAILED is
// passed on the way to PARKED, and RECOVERING on the way back, without a write of
// its own: the event log tells of it.
var SessionTransitions = []Transition[SessionState]{
	{0, "open", SessionIdle},
	{SessionIdle, "run", SessionBusy}, {SessionBusy, "done", SessionIdle},
	{SessionBusy, "fail", SessionFailed}, {SessionFailed, "give_up", SessionParked},
	{SessionParked, "unpark", SessionRecovering}, {SessionRecovering, "recovered", SessionIdle},
	{SessionBusy, "unconfirmed", SessionSuspended}, {SessionSuspended, "away_over", SessionIdle},
	{SessionBusy, "move", SessionMoving}, {SessionMoving, "moved", SessionIdle},
	{SessionIdle, "close", SessionClosed}, {SessionBusy, "close", SessionClosed}, {SessionParked, "close", SessionClosed},
	{SessionSuspended, "close", SessionClosed}, {SessionMoving, "close", SessionClosed},
	{SessionClosed, "retention", SessionRemoved},
}

// Step returns the state to which an event leads; an event that leads to the
// present state from another one leaves it as it is. It is false, and nothing
// may change, if the table has no such step.
func Step[S comparable](table []Transition[S], from S, event string) (S, bool) {
	stays := false
	for _, t := range table {
		if t.Event != event {
			continue
		}
		if t.From == from {
			return t.To, true
		}
		stays = stays || t.To == from
	}
	return from, stays
}

// Lawful reports whether the table allows the step from one state to another.
func Lawful[S comparable](table []Transition[S], from, to S) bool {
	for _, t := range table {
		if t.From == from && t.To == to {
			return true
		}
	}
	return false
}
