package session

import (
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// The model of a gateway, as observed on a real one: the idempotency memory is
// the process's, transcript and pending inputs are durable, a run that was cut
// in its model call is run again by the gateway itself.

type turnState uint8

const (
	tQueued      turnState = iota + 1 // accepted, no model call yet; in pendingInputs
	tActive                           // model call under way; in the transcript
	tOK                               // replied
	tErr                              // failed
	tAborted                          // aborted; its text may lead the key's next prompt
	tInterrupted                      // a crash came before the model call: stays in pendingInputs
	tDying                            // a crash came during the model call: the gateway will run it again
	tDead                             // as tDying, but it will not
	tMerged                           // as tDead, but its text and its mark went into the re-run's own
)

// turn is one run at a gateway. rerun is the boot that started it by itself,
// 0 for a run that was sent.
type turn struct {
	claim, gen, rerun uint8
	state             turnState
	mem               bool  // the present process knows it
	off               bool  // failed without a model call: its provider is switched off
	owner             uint8 // owner+1 whose connection gets the end, 0: nobody's
	alone             bool  // sent while its owner had the gateway to itself
	took              bool  // a re-run whose prompt has the merged text
	blind             bool  // a re-run behind one that took: its prompt has the text no more
}

func (t turn) id() string {
	if t.rerun > 0 {
		return fmt.Sprintf("rr.%d.%d", t.claim, t.rerun)
	}
	return messages.RunID("t", int64(t.claim))
}

func (t turn) alive() bool {
	return t.state == tQueued || t.state == tActive || t.state == tDying
}

func (t turn) inTranscript() bool {
	switch t.state {
	case tActive, tOK, tErr, tDying, tDead:
		return true
	}
	return false
}

type gw struct {
	up, scanned, refusing bool
	boot                  uint8
	ended                 uint8 // the last process that was stopped, 0: none was
	turns                 []turn
}

func (g *gw) bootID(i int) string { return fmt.Sprintf("g%d.b%d", i, g.boot) }

func (g *gw) hello(i int, c Conn) Connected {
	h := Connected{Conn: c, BootID: g.bootID(i)}
	if g.ended > 0 {
		h.Ended = fmt.Sprintf("g%d.b%d", i, g.ended)
	}
	return h
}

func (g *gw) crash(drop bool) {
	g.up, g.scanned, g.refusing = false, false, false
	kept := g.turns[:0:0]
	for _, t := range g.turns {
		t.mem, t.owner = false, 0
		switch t.state {
		case tQueued:
			t.state = tInterrupted
			if drop { // killed before the input was durable
				continue
			}
		case tActive:
			t.state = tDying
		}
		kept = append(kept, t)
	}
	g.turns = kept
}

// nobody waits for the answer to a frame whose connection is gone.
const nobody = 255 // +1 is 0

type frameKind uint8

const (
	fAgent frameKind = iota + 1
	fRead
	fWait
	fAbort
)

type frame struct {
	kind       frameKind
	claim, gen uint8
	run        string
	alone      bool
}

// handle lets the gateway work on one frame of owner o's connection and
// returns its answer. The second result is a safety violation.
func (w *world) handle(gi int, f frame, o uint8, c Conn) (Event, string) {
	g := &w.gws[gi]
	switch f.kind {
	case fAgent:
		return w.agent(gi, f, o, c)
	case fRead:
		return g.read(f, c, messages.SessionKey("default", w.row.SessionOrOwn(), int64(f.gen))), ""
	case fWait:
		return g.wait(f, c), ""
	}
	return w.abort(gi, f, c), ""
}

func (w *world) agent(gi int, f frame, o uint8, c Conn) (Event, string) {
	g := &w.gws[gi]
	ans := Answer{Conn: c, RunID: f.run}
	if g.refusing {
		ans.Kind = Refused
		return ans, ""
	}
	bare := -1
	for i, t := range g.turns {
		if t.rerun == 0 && t.id() == f.run && t.mem {
			ans.Kind, ans.Off = t.answer(), t.pause()
			if ans.Kind == Open {
				ans.Kind = InFlight
			}
			ans.Error = t.failure()
			return ans, ""
		}
		if t.gen != f.gen {
			continue
		}
		if t.rerun == 0 && t.id() == f.run && t.inTranscript() {
			bare = i
		} else if bare >= 0 && t.inTranscript() {
			bare = -2 - i
		}
	}
	ans.Kind = Accepted
	nt := turn{claim: f.claim, gen: f.gen, state: tQueued, mem: true, owner: o + 1, alone: f.alone}
	switch {
	case f.run != nt.id(): // a run id of its own for each send (rule a switched off)
		g.turns = append(g.turns, turn{claim: f.claim, gen: f.gen, state: tQueued, owner: o + 1})
		return ans, ""
	case bare < -1: // deeper in the transcript: an error and no model call
		nt.state, nt.owner = tErr, 0
		ans.Kind = Failed
		g.turns = append(g.turns, nt)
		return ans, ""
	case bare >= 0: // its last user text: the model is called again
		g.turns[bare].alone = f.alone
		bad := w.executes(gi, bare, g.turns[bare].state)
		g.turns[bare].state, g.turns[bare].mem, g.turns[bare].owner = tActive, true, o+1
		return ans, bad
	}
	g.turns = append(g.turns, nt)
	return ans, ""
}

// answer is what agent and agent.wait say of a run the process knows.
func (t turn) answer() Kind {
	switch t.state {
	case tOK:
		return Success
	case tErr:
		return Failed
	case tAborted:
		return Aborted
	}
	return Open
}

// pause comes with a failure without a model call.
func (t turn) pause() time.Duration {
	if t.off {
		return time.Minute
	}
	return 0
}

func (t turn) failure() *messages.TaskError {
	if !t.off {
		return nil // the machine has words of its own
	}
	return &messages.TaskError{Code: string(messages.CodeProviderAuth), Message: "off", Retryable: true}
}

func (g *gw) read(f frame, c Conn, key string) Event {
	r := SessionRead{Conn: c, Key: key}
	for _, t := range g.turns {
		if t.gen != f.gen {
			continue
		}
		switch {
		case t.state == tActive && t.mem:
			r.ActiveRuns, r.Busy = append(r.ActiveRuns, t.id()), true
		case t.state == tQueued && t.mem:
			r.Pending, r.Busy = append(r.Pending, t.id()), true
		case t.state == tInterrupted:
			r.Pending = append(r.Pending, t.id())
		case t.state == tDying && g.scanned:
			r.ActiveRuns, r.Busy, r.AbortedLastRun = append(r.ActiveRuns, fmt.Sprintf("rr.%d.%d", t.claim, g.boot)), true, true
		}
		if t.inTranscript() {
			tn := Turn{RunID: t.id(), Bare: t.state == tDying || t.state == tDead || t.state == tActive}
			if t.state == tOK {
				tn.Reply = &messages.TaskResult{}
			}
			r.Turns = append(r.Turns, tn)
		}
	}
	return r
}

func (g *gw) wait(f frame, c Conn) Event {
	for _, t := range g.turns {
		if t.mem && t.id() == f.run {
			return WaitAnswer{Conn: c, RunID: f.run, Kind: t.answer(), Error: t.failure(), Off: t.pause()}
		}
	}
	return WaitAnswer{Conn: c, RunID: f.run, Kind: Open}
}

// abort ends what runs or waits in a key. An unknown run leaves no tombstone.
func (w *world) abort(gi int, f frame, c Conn) Event {
	g := &w.gws[gi]
	a := AbortAnswer{Conn: c}
	for i := range g.turns {
		t := &g.turns[i]
		if t.gen != f.gen {
			continue
		}
		switch t.state {
		case tQueued, tActive:
			t.state = tAborted
			a.Runs = append(a.Runs, t.id())
			w.tell(gi, i)
		case tDying:
			t.state = tDead
		case tInterrupted:
			t.state = tAborted
		}
	}
	return a
}

// tell sends the end of a turn to the connection that sent it.
func (w *world) tell(gi, i int) {
	t := &w.gws[gi].turns[i]
	if t.owner == 0 {
		return
	}
	o := &w.owners[t.owner-1]
	t.owner = 0
	if o.conn != 0 {
		o.in = append(o.in[:len(o.in):len(o.in)], Answer{Conn: o.conn, RunID: t.id(), Kind: t.answer(), Error: t.failure(), Off: t.pause()})
	}
}

// executes judges a model call that Dash caused, before turn i becomes active.
func (w *world) executes(gi, i int, was turnState) string {
	t := w.gws[gi].turns[i]
	row := &w.row
	if int64(t.claim) <= w.excused {
		return ""
	}
	switch {
	case int64(t.claim) != row.Claim:
		return "a claim that is over was executed"
	case row.State == messages.Cancelled:
		return "a cancelled task was started"
	case !row.State.AtGateway() && row.State != messages.Held:
		return "executed after its end, in state " + row.State.String()
	case row.Suspect() && !t.alone:
		return "what may kill gateways runs beside others"
	case was == tOK:
		return "second execution of a run that had replied"
	}
	for gj := range w.gws {
		for j, u := range w.gws[gj].turns {
			if gj == gi && j == i || int64(u.claim) <= w.excused {
				continue
			}
			if gj == gi && u.gen == t.gen && (u.state == tAborted || u.state == tInterrupted) {
				return "the remains of another run lead its prompt"
			}
			if u.gen > t.gen || gj != gi && u.gen == t.gen {
				return "an old session key was used again"
			}
			if u.state == tActive || u.state == tOK && !u.blind || u.state == tDying {
				return "second execution"
			}
		}
	}
	return ""
}
