package messages

import (
	"strings"
	"time"
)

// The messages between a pool's owner (P: arbiter and class dispatchers) and a
// gateway's owner (G: gateway and session actors). All of them may be
// repeated: each names its claim, and the receiver drops what it knows.

// ClaimRef names one claim of one task.
type ClaimRef struct {
	Task  string
	Claim int64
}

// Demand is how a gateway asks for work (G to P). It is absolute, so repeating
// it is harmless and a lost one is healed by the next. It is sent when
// anything but Running changes, and every DemandInterval. P answers to the sender.
type Demand struct {
	Gateway      string
	Tenant       string
	Pool         string
	Region       string
	Capabilities []string
	Labels       map[string]string
	Weight       int

	Owner string // with Epoch: the fence of G, which every claim for this gateway must carry
	Epoch int64
	// BootID is the gateway process that the window belongs to. A claim carries
	// it, so that whoever finds the claim later knows whether the process that
	// may have got the frame is still the same.
	BootID string

	Window  int        // runs it may hold at once; 0: no more work
	Running []ClaimRef // every claim it holds
	// Trials are those of claims under which its process died, as they are durable.
	Trials map[ClaimRef]*Trials
	// Returned are claims that G holds no more and that were certainly not
	// executed; repeated until P has taken them back.
	Returned []Returned
	// AwaySince is when the gateway became unreachable, zero while it is not.
	AwaySince time.Time
	// Paused are the model providers that the gateway has switched off: it gets no
	// task that needs one of them.
	Paused []Pause
	// Draining: the window is 0 because somebody wants so.
	Draining bool
	// Gone: the gateway was removed. P takes its claims back at once, as if it
	// had been away for too long.
	Gone bool
}

// Pause is a model provider that a gateway leaves alone for a while, because it
// refused the gateway's key or account. An empty Provider is that of tasks which
// name no model.
type Pause struct {
	Provider string
	Until    time.Time
	Why      string
}

// Words tell a person of it.
func (p Pause) Words() string {
	who := "its default model provider"
	if p.Provider != "" {
		who = "the model provider " + p.Provider
	}
	s := "the gateway has switched off " + who + " until " + p.Until.UTC().Format(time.TimeOnly) + " UTC"
	if p.Why != "" {
		s += ": " + p.Why
	}
	return s
}

// ProviderOf is the provider in a model's name, "<provider>/<model>"; empty if
// there is none, so that the gateway's default counts.
func ProviderOf(model string) string {
	provider, _, found := strings.Cut(model, "/")
	if !found {
		return ""
	}
	return provider
}

// Returned is G's evidence that a claim was not executed: the gateway refused
// it, or the epoch that got the claim wrote no byte of it.
type Returned struct {
	ClaimRef
	Reason string
	// Refused by the gateway; else nothing was sent to it.
	Refused bool
	Trials  *Trials // of the task, as they are durable
}

// Taken acknowledges Returned (P to G): these claims are void now, also those
// that P did not know; G forgets them and stops repeating them.
type Taken struct{ Claims []ClaimRef }

// DemandInterval is how often an unchanged Demand is repeated; P gives a
// gateway that was silent for DemandTimeout a window of 0.
const (
	DemandInterval = 2 * time.Second
	DemandTimeout  = 10 * time.Second
)

// Assign gives a durable claim to a gateway (P to G). P repeats it until the
// gateway's Demand lists it as running or it has ended. A row that is past
// CLAIMED is a run that the Demand should list and does not: G takes it up as
// the store has it. It is sent as a pointer, and nobody changes it.
type Assign struct {
	Task Task
	// Session is the session's row as written with the claim; nil for a throw-away session.
	Session *Session
	// History is replayed at the start of a new generation, empty otherwise.
	History string
}

// StopRun tells G that the task's cancel flag is durable (P to G). G stops the
// run and ends the task.
type StopRun struct{ ClaimRef }

// Withdraw tells G that the claim is void (P to G): its task was taken back by
// the away policy. G forgets the run and fences its session key before the
// gateway gets other work.
type Withdraw struct {
	ClaimRef
	// Held: the task waits HELD; G goes on looking for a proof of its success.
	Held bool
}

// Ended tells P that a claim is over (G to P), after it was made durable: the
// task is terminal or in RETRY_WAIT. It is sent as a pointer, and nobody
// changes it.
type Ended struct {
	Task    Task
	Session *Session // as written in the same step, nil if unchanged
}

// Proof tells P that a HELD task was executed with success after all (G to P):
// Task is its row as it should end. P writes it; nothing of it is durable yet.
type Proof struct{ Task Task }

// SessionChangedByG tells P that G changed a session's generation or state
// while a claim goes on (G to P), after it was made durable.
type SessionChangedByG struct{ Session Session }
