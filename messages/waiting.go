package messages

// WaitingCode says what keeps a task that is not finished, for clients that act
// on it. The words beside it are made from the code and what it is about.
type WaitingCode string

// Codes of what keeps a task. They are public, and no other is ever given;
// http/api/openapi.yaml says what each means.
const (
	WaitsNoGateway      WaitingCode = "no_gateway"
	WaitsWindow         WaitingCode = "window"
	WaitsCap            WaitingCode = "cap"
	WaitsSessionBusy    WaitingCode = "session_busy"
	WaitsSessionParked  WaitingCode = "session_parked"
	WaitsBlocked        WaitingCode = "blocked"
	WaitsReserved       WaitingCode = "reserved"
	WaitsDraining       WaitingCode = "draining"
	WaitsAway           WaitingCode = "away"
	WaitsBudget         WaitingCode = "budget"
	WaitsPausedProvider WaitingCode = "paused_provider"
	WaitsProvider       WaitingCode = "provider"
	WaitsSubAgents      WaitingCode = "sub_agents"
	WaitsDue            WaitingCode = "due"
	WaitsRetry          WaitingCode = "retry"
	WaitsHeld           WaitingCode = "held"
)
