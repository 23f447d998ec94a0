package gateway

import (
	"time"

	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

// life is what is known of one gateway and what is wanted of it: its
// connection, its process, its drain and its end. It is a plain value, and
// decide alone changes it.
type life struct {
	gw     *messages.Gateway // as it is configured; never changed in place
	daemon bool              // Dash starts its process, where it is at home
	timing *Timing

	state  messages.GatewayState
	reason string
	since  time.Time // AwaySince; zero: it can be used
	boot   string    // of the process that answered last
	ended  string    // of the last one that ended in good order
	deaths int       // restarts that were seen

	conn     session.Conn // the dial or connection that counts
	linked   bool
	linkedAt time.Time
	open     bool   // the connection is settled: the window counts
	dropped  string // why this side ended it
	attempts int    // failed connects in a row

	loaded    bool // claims of earlier lives are known
	draining  bool
	removed   bool
	leaving   time.Time // when it was removed
	quiet     int       // ticks since then without a claim
	unwatched bool      // HELD tasks were let go, for the removal

	unwell  string // why the warm-up turn failed; until a run succeeds
	misfit  string // why it refuses its configuration; until it has another
	managed managed
}

// managed is what is known of a managed gateway's process.
type managed struct {
	up       bool // Ensure said so and no exit was seen since
	starting bool
	stopping bool
	stale    bool // it runs with another configuration than the present one
	renewed  bool // what was stopped, or is, has another configuration than what starts next
	hung     bool // at the last look its process lived and did not answer
	cold     bool // it was started by us and has had no turn yet
	endpoint Endpoint
	failed   *StartError // why the last start failed; nil: it did not
	starts   []time.Time // inside the retry window; adoptions do not count; never changed in place

	uptake    ConfigUptake
	prior     ConfigUptake // how it came to the one that it runs with, while it is given another or refuses it
	before    string       // its boot id when it became stale
	given     given
	reloading bool // it was given its configuration while it runs
	again     bool // that changed meanwhile
}

func newLife(cfg *Config, now time.Time) life {
	return life{
		gw: &cfg.Gateway, daemon: cfg.Process != nil, timing: &cfg.Timing,
		boot: cfg.Last.BootID, draining: cfg.Gateway.Drained,
		since: now, // nothing is known of it until it answers
	}
}

// facts are what the rest of the actor knows while one event is decided.
type facts struct {
	claims     int  // all
	held       int  // that take a slot
	recovering int  // that a restarted process has not settled yet
	tidying    bool // something is being taken away from the gateway

	// away says that the gateway's home is another node, and awayNext what an
	// operator can do; empty: it may be started and dialled here.
	away, awayNext string

	paused  string // the providers that it has switched off, in words
	reduced string // why its window is smaller than it could be
	limited string // that the gateway itself takes less than is configured
}

// input is one event and all that is needed to decide it.
type input struct {
	now  time.Time
	rand float64
	facts
	event any
}

// Events beside the messages of the same name: what operators ask for, and what
// came of slow work.
type (
	// registered: the actor has started.
	registered struct{}
	// known: the claims of earlier lives were read.
	known struct{}
	// hello: a dial has brought a connection.
	hello struct {
		conn session.Conn
		boot string
	}
	// refused: a dial has brought none.
	refused struct {
		conn         session.Conn
		reason, next string
		permanent    bool
		after        time.Duration // not before
	}
	// recorded: the boot id of a connection is durable, or could not be written.
	recorded struct {
		conn session.Conn
		err  error
	}
	// freed: a claim has ended, or takes no slot any more.
	freed struct{}
	// judged: something about its health has changed.
	judged struct{}
	// served: a run has succeeded.
	served struct{}
	// explained: so many deaths of the process were a task's doing.
	explained struct{ deaths int }
)
