package session

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// bounds of one search: what is tried, and what may go wrong how often.
type bounds struct {
	name             string
	claims, gateways int
	budget
	hold      bool // on_unknown
	throwAway bool // a task without a session
	merges    bool // a gateway's own re-run may take the interrupted text into its own
	claimBoot bool // P writes the boot id of the Demand into the claim
	elsewhere bool // who takes over is on another host than the gateway's home
	off       off
	deaths    uint8 // that the task has seen already
	pure      bool  // check that Decide leaves its argument alone
}

// budget counts what may still go wrong.
type budget struct {
	crashes     uint8 // of a gateway process
	dropInput   uint8 // 1: a crash may lose an input that was accepted
	losses      uint8 // of a connection
	takeovers   uint8
	cancels     uint8
	errors      uint8 // of a run
	offs        uint8 // a run finds its provider switched off
	refusals    uint8 // spells in which a gateway takes no work
	aways       uint8 // P gives an unreachable gateway up
	deadlines   uint8
	notSent     uint8
	storeErrors uint8
	forget      uint8 // a gateway forgets a result
	homes       uint8 // after a take-over on another host, the home comes back
	stops       uint8 // of a gateway process by Dash
}

// off switches rules off.
type off struct {
	rules
	b      bool // frames are carried over to the next connection
	e      bool // a claim found at a take-over counts as not sent
	pFence bool // P takes a claim back without the fence of who gave the evidence
	home   bool // an owner on another host starts and dials the gateway, too
}

// owner is one epoch of a gateway's owner. A pause is nothing special: any
// step of it may come late.
type owner struct {
	gw       int  // whose owner it is: its fence
	at       int  // the process that it would dial
	away     bool // not at home: it must dial nothing
	epoch    uint8
	alive    bool
	seen     uint8 // claims it had a Run for, as bits
	run      *Run
	conn     Conn // 0: none
	out      []frame
	in       []Event
	unsent   *frame  // a Send that is neither written nor denied
	commit   *Commit // on its way to the store
	done     *Committed
	returned int64 // claim
	proof    bool
	asks     bool // AskAlone
	alone    bool // it was granted
}

type orphan struct {
	gw   int
	boot uint8
	f    frame
}

type world struct {
	row     messages.Task
	sess    messages.Session
	epoch   [2]uint8
	gws     [3]gw    // the last: what an owner of gateway 0 on another host would start
	owners  [4]owner // two of gateway 0, one of gateway 1, and gateway 0's home again
	orphans []orphan
	assign  int   // owner index that got the present claim, -1 none
	claimed int64 // generation of the claim, as it was assigned
	excused int64
	cfg     *bounds
	left    budget
	conns   Conn
	crashes uint8 // of processes so far, stops not counted
	guilty  bool  // one of them while the run was alone there
}

func (w *world) clone() *world {
	c := *w
	for i := range c.gws {
		c.gws[i].turns = append([]turn(nil), c.gws[i].turns...)
	}
	c.orphans = append([]orphan(nil), c.orphans...)
	for i := range c.owners {
		o := &c.owners[i]
		o.out = append([]frame(nil), o.out...)
		o.in = append([]Event(nil), o.in...)
	}
	return &c
}

func newWorld(b *bounds) *world {
	w := &world{cfg: b, left: b.budget, assign: -1}
	w.row = claimedTask()
	w.row.State, w.row.Claim, w.row.Attempt, w.row.Gateway = messages.Queued, 0, 0, ""
	w.row.Spec = &messages.TaskSpec{Message: "hi", TimeoutSeconds: 100, MaxAttempts: int32(b.claims)}
	if b.hold {
		w.row.Spec.OnUnknown = string(messages.Hold)
	}
	if b.throwAway {
		w.row.Session = ""
	}
	for range b.deaths {
		w.row.CountDeath(t0, false)
	}
	w.sess = *idleSession()
	w.sess.Gateway = ""
	for i := range b.gateways {
		w.gws[i] = gw{up: true, scanned: true, boot: 1}
		w.epoch[i] = 1
	}
	w.owners[0] = owner{gw: 0, epoch: 1, alive: true}
	w.owners[1] = owner{gw: 0, epoch: 2}
	w.owners[2] = owner{gw: 1, at: 1, epoch: 1, alive: b.gateways > 1}
	w.owners[3] = owner{gw: 0, epoch: 3}
	if b.elsewhere {
		w.owners[1].at, w.owners[1].away = otherHost, !b.off.home
		w.gws[otherHost] = gw{up: b.off.home, scanned: true, boot: 1}
	}
	return w
}

// otherHost is the process that is not at the gateway's home, in an empty folder.
const otherHost = 2

func (w *world) current(i int) bool {
	o := &w.owners[i]
	return o.alive && w.epoch[o.gw] == o.epoch
}

// decide gives an owner's Run one event and carries its effects out.
func (w *world) decide(i int, e Event) string {
	o := &w.owners[i]
	if o.run == nil {
		return ""
	}
	var before keyWriter
	if w.cfg.pure {
		before.run(o.run, o.conn)
	}
	r, effects := Decide(*o.run, Input{Now: t0, Rand: 0.5, Event: e})
	if w.cfg.pure {
		var after keyWriter
		if after.run(o.run, o.conn); !bytes.Equal(before.b, after.b) {
			return "Decide changed its argument"
		}
		if _, more := Decide(r, Input{Now: t0, Rand: 0.5, Event: Sent{}}); len(more) > 0 {
			return fmt.Sprintf("Decide left something undone after %T: %v", e, more)
		}
	}
	o.run = &r
	for _, e := range effects {
		if bad := w.carryOut(i, e); bad != "" {
			return bad
		}
	}
	if r.over {
		o.run, o.unsent, o.asks, o.alone = nil, nil, false, false
	}
	return ""
}

func genOf(key string) uint8 { return key[len(key)-1] - '0' }

func (w *world) carryOut(i int, e Effect) string {
	o := &w.owners[i]
	switch e := e.(type) {
	case Send:
		f := frame{kind: fAgent, claim: uint8(o.run.Task.Claim), gen: genOf(e.SessionKey), run: e.RunID, alone: o.alone}
		o.unsent = &f
		if e.Conn != o.conn || o.conn == 0 {
			return "a frame for a connection that is not there"
		}
	case ReadSession:
		w.query(i, frame{kind: fRead, gen: genOf(e.Key)})
	case Wait:
		w.query(i, frame{kind: fWait, run: e.RunID})
	case Abort:
		if o.unsent != nil { // frames keep their order
			o.out, o.unsent = append(o.out, *o.unsent), nil
		}
		o.out = append(o.out, frame{kind: fAbort, gen: genOf(e.Key)})
	case *Commit:
		if o.commit != nil || o.done != nil {
			return "two commits under way"
		}
		for _, s := range steps(e) {
			if !slices.Contains(messages.TaskTransitions, s) {
				return fmt.Sprintf("the table has no step %v -> %v by %q", s.From, s.To, s.Event)
			}
		}
		if !messages.Lawful(messages.TaskTransitions, e.From, e.Task.State) {
			return fmt.Sprintf("unlawful step %v -> %v (%s)", e.From, e.Task.State, e.Reason)
		}
		o.commit = e
	case Returned:
		o.returned = e.Claim
	case AskAlone:
		o.asks = true
	case Proof:
		o.proof = true
	case Fence:
		if t := &w.row; t.State.AtGateway() && t.Claim != o.run.Task.Claim && t.SessionKey() == e.Key {
			return "a fence hits a newer claim"
		}
	}
	return ""
}

// query asks the gateway something that changes nothing. It is answered at
// once, unless other frames go before: the answer is heard at any later time,
// so that it may be as old as it can be.
func (w *world) query(i int, f frame) {
	o := &w.owners[i]
	if len(o.out) > 0 || o.unsent != nil {
		o.out = append(o.out, f)
		return
	}
	e, _ := w.handle(o.at, f, uint8(i), o.conn)
	o.in = append(o.in, e)
}

// store lets the store work on an owner's commit.
func (w *world) store(i int) string {
	o := &w.owners[i]
	c := o.commit
	o.commit = nil
	o.done = &Committed{Op: c.Op, Status: CommitOK}
	if w.epoch[o.gw] != o.epoch {
		o.done.Status = CommitFenced
		return ""
	}
	if w.row.State != c.From || w.row.Claim != c.FromClaim || c.Session != nil && w.sess.Generation != c.FromGeneration {
		row := w.row
		o.done.Status, o.done.Current = CommitConflict, &row
		return ""
	}
	bad := w.judgeEnd(c)
	if bad == "" {
		bad = w.judgeDeaths(&c.Task)
	}
	flag := w.row.Cancel
	w.row = c.Task
	w.row.Cancel.RequestedAt, w.row.Cancel.Reason = flag.RequestedAt, flag.Reason
	if c.Session != nil {
		w.sess = *c.Session
	}
	return bad
}

// judgeEnd checks an end against what is true at the gateways.
func (w *world) judgeEnd(c *Commit) string {
	to := c.Task.State
	if to.AtGateway() {
		return ""
	}
	if c.unsure {
		w.excused = c.FromClaim
		return ""
	}
	if bad := w.judgePause(c); bad != "" {
		return bad
	}
	return w.truth(c, to.String())
}

// judgePause: an attempt is given back only to a run that the gateway ended
// without a model call, and then always.
func (w *world) judgePause(c *Commit) string {
	off := false
	for gi := range w.gws {
		for _, t := range w.gws[gi].turns {
			off = off || t.off && int64(t.claim) == c.FromClaim
		}
	}
	burned := c.Task.Attempt == w.row.Attempt
	switch {
	case c.Reason == "provider_paused" && (!off || burned):
		return "an attempt was given back although the model was asked"
	case c.Reason != "provider_paused" && !burned:
		return "an attempt was given back without a reason"
	case off && c.Reason == "retryable_error":
		return "a run that made no model call burned an attempt"
	}
	return ""
}

// judgeDeaths checks what is told of deaths against those that were.
func (w *world) judgeDeaths(t *messages.Task) string {
	switch {
	case len(t.Trials.GetDeaths()) > int(w.cfg.deaths+w.crashes):
		return "a death that never was"
	case t.Error.GetCode() == string(messages.CodeGatewayCrashed) && !w.guilty:
		return "the innocent ends as what kills gateways"
	}
	return ""
}

func (w *world) truth(c *Commit, what string) string {
	ok := false
	for gi := range w.gws {
		for _, t := range w.gws[gi].turns {
			if int64(t.claim) != c.FromClaim {
				continue
			}
			ok = ok || t.state == tOK && !t.blind
			if t.alive() {
				return "ended as " + what + " and goes on"
			}
		}
	}
	if c.Task.State == messages.Succeeded && !ok {
		return "a success that never was"
	}
	if c.Task.State != messages.Succeeded && ok {
		return "a success was recorded as " + what
	}
	return ""
}

// drop ends an owner's connection. What it had written may still arrive.
func (w *world) drop(i int, written bool) {
	o := &w.owners[i]
	g := &w.gws[o.at]
	if o.unsent != nil {
		if written {
			o.out = append(o.out, *o.unsent)
		}
		o.unsent = nil
	}
	for _, f := range o.out {
		if (f.kind == fAgent || f.kind == fAbort) && g.up {
			w.orphans = append(w.orphans, orphan{o.at, g.boot, f})
		}
	}
	for k := range g.turns {
		if g.turns[k].owner == uint8(i)+1 {
			g.turns[k].owner = 0
		}
	}
	o.out, o.in, o.conn, o.asks, o.alone = nil, nil, 0, false, false
}

func (w *world) disconnect(i int, written bool) string {
	c := w.owners[i].conn
	w.drop(i, written)
	return w.decide(i, Disconnected{c})
}

// blame notes a crash, and whether nothing but the run can explain it.
func (w *world) blame(gi int) {
	w.crashes++
	for _, t := range w.gws[gi].turns {
		w.guilty = w.guilty || t.alone && int64(t.claim) == w.row.Claim && (t.state == tQueued || t.state == tActive)
	}
}

// crash kills a gateway process with all its connections.
func (w *world) crash(gi int, dropInput bool) string {
	boot := w.gws[gi].boot
	w.gws[gi].crash(dropInput)
	kept := w.orphans[:0:0]
	for _, f := range w.orphans {
		if f.gw == gi && f.boot == boot {
			if !w.cfg.off.b {
				continue // it died with its process
			}
			f.boot++
		}
		kept = append(kept, f)
	}
	w.orphans = kept
	for i := range w.owners {
		o := &w.owners[i]
		if o.at != gi || o.conn == 0 {
			continue
		}
		if w.cfg.off.b && o.unsent != nil {
			o.out, o.unsent = append(o.out, *o.unsent), nil
		}
		for _, f := range o.out {
			if w.cfg.off.b && f.kind == fAgent {
				w.orphans = append(w.orphans, orphan{gi, boot + 1, f})
			}
		}
		if bad := w.disconnect(i, false); bad != "" {
			return bad
		}
	}
	return ""
}

// claim is P's claim for the gateway of owner i, under both fences.
func (w *world) claim(i int) {
	t := &w.row
	gw := fmt.Sprintf("g%d", w.owners[i].gw)
	if t.Gateway != "" && t.Gateway != gw || t.Claim > 0 && w.excused == t.Claim {
		if t.Generation <= w.sess.Generation { // a move: a new key
			w.sess.Generation++
			w.sess.Replay = true
		}
	}
	if !w.cfg.throwAway {
		t.Generation = w.sess.Generation
	} else if t.Gateway != "" && t.Gateway != gw || t.Claim > 0 && w.excused == t.Claim {
		t.Generation++
	}
	w.sess.Gateway, t.Gateway = gw, gw
	t.State, t.Claim, t.Attempt = messages.Claimed, t.Claim+1, t.Attempt+1
	t.BootID, t.ObservedRunID, t.Stopping, t.StartedAt = w.claimBootID(i), "", messages.StopNone, time.Time{}
	w.assign, w.claimed = i, t.Generation
}

// assigned is the task as it was when P claimed it.
func (w *world) assigned() (messages.Task, messages.Session) {
	t, s := w.row, w.sess
	t.State, t.Cancel, t.Generation, s.Generation = messages.Claimed, messages.Cancel{}, w.claimed, w.claimed
	t.BootID, t.ObservedRunID, t.Stopping, t.StartedAt = w.claimBootID(w.assign), "", messages.StopNone, time.Time{}
	return t, s
}

func (w *world) claimBootID(i int) string {
	if w.cfg.claimBoot {
		return w.gws[w.owners[i].at].bootID(w.owners[i].at)
	}
	return ""
}

func (w *world) start(i int, row messages.Task, c messages.Session, fresh bool) string {
	o := &w.owners[i]
	o.seen |= 1 << row.Claim
	var s *messages.Session
	if !w.cfg.throwAway {
		s = &c
	}
	r := Start(row, s, "", fresh || w.cfg.off.e && row.State == messages.Claimed)
	r.rules = w.cfg.off.rules
	o.run = &r
	if o.conn != 0 {
		return w.decide(i, w.gws[o.at].hello(o.at, o.conn))
	}
	return w.decide(i, Disconnected{0})
}
