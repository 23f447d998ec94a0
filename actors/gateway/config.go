package gateway

import (
	"context"
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// Link is a connection to one gateway process; *openclaw.Conn is one.
type Link interface {
	session.Link
	Hello() *openclaw.Hello
	Agent(openclaw.AgentRequest, func(openclaw.AgentAnswer)) error
	Sessions(ctx context.Context, q openclaw.SessionQuery) (openclaw.SessionPage, error)
	SystemInfo(ctx context.Context) (openclaw.SystemInfo, error)
	Lanes(ctx context.Context) ([]openclaw.Lane, error)
	ConfigState(ctx context.Context) (openclaw.ConfigState, error)
	Done() <-chan struct{}
	Err() error
	Close()
}

// DialFunc opens a link. Its errors are *openclaw.RefusedError.
type DialFunc func(ctx context.Context, cfg openclaw.Config, h openclaw.Handler) (Link, error)

// Endpoint is where a managed gateway listens.
type Endpoint struct {
	URL     string
	Token   messages.Secret
	PID     int
	Adopted bool // it was running already
	Stale   bool // it runs with something else than is configured now
}

// StartError says why a managed gateway did not start.
type StartError struct {
	Permanent bool // another try gives the same result
	Alive     bool // its process lives and does not answer: it hangs, or is not ready any more
	Reason    string
	NextStep  string
	Err       error
}

func (e *StartError) Error() string { return e.Reason }
func (e *StartError) Unwrap() error { return e.Err }

// Rewriting is what came of giving a living process its configuration.
type Rewriting int

// What came of giving a living process its configuration.
const (
	NeedsStart    Rewriting = iota // only a start brings it
	FileUnneeded                   // the process is known to run with it
	FileUnchanged                  // the file said so already; whether it was taken, nobody noted
	FileWritten
)

// Process is the daemon of a managed gateway.
type Process interface {
	// Ensure returns when a process that is ours listens and is ready; it
	// adopts a living one before it starts another. Its errors are *StartError.
	Ensure(ctx context.Context) (Endpoint, error)
	// AwaitExit waits for the end of the process that Ensure told of last; it
	// is false when ctx ended first.
	AwaitExit(ctx context.Context) bool
	// Stop drains and ends the process; it interrupts Ensure. Without a process
	// it has nothing to do and returns nil.
	Stop(ctx context.Context) error
	// Configure says how the next process is started.
	Configure(gw messages.Gateway)
	// Rewrite gives the living process its present configuration, in the file that
	// it watches.
	Rewrite(ctx context.Context) (Rewriting, error)
	// Rewritten ends a Rewrite: the process runs with that file, or refused it
	// and has the one before back.
	Rewritten(ctx context.Context, taken bool) error
	// Kill ends the process at once; else as Stop.
	Kill(ctx context.Context) error
}

// Store is what a gateway reads.
type Store interface {
	Tasks(ctx context.Context, f persistence.TaskFilter, cursor string, limit int) ([]messages.Task, string, error)
	Task(ctx context.Context, tenant, id string) (messages.Task, error)
	Session(ctx context.Context, tenant, id string) (messages.Session, error)
}

// Config of a gateway actor.
type Config struct {
	Gateway messages.Gateway
	Fence   messages.Fence
	// Last is what the previous owner recorded, zero for a new gateway.
	Last messages.GatewayStatus

	Store     Store
	Committer *actor.PID
	// Pool returns the owner of a pool.
	Pool func(id string) *actor.PID
	// History returns what is replayed at the start of a session's new generation.
	History func(ctx context.Context, tenant, session string) (string, error)
	// Text takes the text so far of a run, at the end of its claim an empty
	// one; it must not block.
	Text func(task string, claim int64, text string)
	// Trouble takes what keeps a run, as a code and in words: its model call failed
	// and the gateway goes on asking, or its sub-agents are at work. The next Text
	// takes it back. It must not block.
	Trouble func(task string, claim int64, code messages.WaitingCode, words string)
	Dial    DialFunc
	// Process is nil for a gateway that somebody else runs.
	Process Process
	// Elsewhere says why this node must not start or dial the gateway, and what
	// an operator can do; an empty reason: it may. Such an owner only settles
	// claims. nil: the gateway can be reached from everywhere.
	Elsewhere func(g messages.Gateway) (reason, next string)
	// Boots knows which gateway each process is; nil: nobody asks.
	Boots *Boots
	// Lost is called when a write was fenced: another node owns the gateway.
	Lost func(gateway string)
	// Live is false while the node's lease may have ended, so that another node
	// may own the gateway: no frame is written then. nil: it cannot end.
	Live func() bool

	// Yielding is true while the gateway is to get no new work because its node
	// hands over; what it has goes on. nil: it never does.
	Yielding func() bool

	OpenClaw openclaw.Config // limits and metrics; URL and token come from Gateway
	Timing   Timing
	Logger   *slog.Logger
	Metrics  *Metrics
	Restarts *prometheus.CounterVec
	// Memory is the room for long replies that all gateways share; nil: this one
	// has its own.
	Memory *Memory
	// Dispatcher runs the turns of the gateway and its sessions; nil:
	// protoactor's own.
	Dispatcher actor.Dispatcher
}
