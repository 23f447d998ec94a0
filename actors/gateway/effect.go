package gateway

import (
	"log/slog"
	"time"

	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

// effect is something to do. The set is closed, effects are data, and they are
// carried out in order.
type effect interface{ effect() }

type (
	// moved records a state, or new words for the present one. If conn is set,
	// the write carries that connection's boot id and is answered by recorded.
	moved struct {
		from, to     messages.GatewayState
		event        string
		reason, next string
		conn         session.Conn
	}
	// refusedStep says that the table has no such step; nothing has changed.
	refusedStep struct {
		from  messages.GatewayState
		event string
	}
	// write records the row with a connection's boot id, answered by recorded.
	write struct{ conn session.Conn }
	// announce writes an event about a state that stays as it is.
	announce struct{ words string }
	// demand tells the pool's owner how much work the gateway takes. It stands
	// once, behind all others.
	demand struct{}

	// dial opens a connection, answered by hello or refused, later by linkLost.
	dial struct{ conn session.Conn }
	// retry is answered by reconnect.
	retry struct {
		after time.Duration
		n     int
	}
	// hangUp ends the connection, answered by linkLost.
	hangUp struct{ why string }
	// part tells everybody below that the connection is gone.
	part struct{ conn session.Conn }
	// greet tells everybody below of the connection.
	greet struct{}
	// settle makes the gateway fit for work, answered by settled.
	settle struct{ warm bool }

	// start adopts or starts the process, answered by started.
	start struct{}
	// awaitExit is answered by exited.
	awaitExit struct{ pid int }
	// stop drains and ends the process, within a bound; answered by stopped.
	stop struct{}
	// give gives the living process its configuration, answered by reloaded.
	give struct{ warm bool }

	// died: a process ended that nobody had asked to.
	died struct{}
	// forget what was known of the last process's sub-agents.
	forget struct{}
	// lift the pauses of providers: their cause may be mended.
	lift struct{}
	// resize takes the gateway's own limit of runs; 0: as it was.
	resize struct{ lane int }
	// sweep removes throw-away sessions at the gateway.
	sweep struct{}
	// unwatch lets the HELD tasks go.
	unwatch struct{}
	// end stops the actor.
	end struct{}

	// note is a line in the log.
	note struct {
		level slog.Level
		text  string
		attrs []slog.Attr
	}
)

func (moved) effect()       {}
func (refusedStep) effect() {}
func (write) effect()       {}
func (announce) effect()    {}
func (demand) effect()      {}
func (dial) effect()        {}
func (retry) effect()       {}
func (hangUp) effect()      {}
func (part) effect()        {}
func (greet) effect()       {}
func (settle) effect()      {}
func (start) effect()       {}
func (awaitExit) effect()   {}
func (stop) effect()        {}
func (give) effect()        {}
func (died) effect()        {}
func (forget) effect()      {}
func (lift) effect()        {}
func (resize) effect()      {}
func (sweep) effect()       {}
func (unwatch) effect()     {}
func (end) effect()         {}
func (note) effect()        {}
