package openclawtest

import (
	"slices"
	"strings"
	"time"
)

// maxDepth bounds how many runs without run time end inside each other's end.
const maxDepth = 50

type runState uint8

const (
	stateQueued    runState = iota // behind a busy session
	stateLane                      // has its session, waits for a slot
	statePreparing                 // has a slot, no model call yet
	stateModel                     // model call under way
	stateRerun                     // a pending re-run after a crash; holds its session
	stateDone
)

type via uint8

const (
	viaAgent via = iota
	viaHTTP
	viaRecovery
	viaSubAgent // beside lane main
	viaAnnounce // brings a sub-agent's result; its user text is not shown
)

// run is one turn from acceptance until its id is forgotten. Guarded by g.mu.
type run struct {
	id, key   string
	sessionID string
	via       via
	bare      bool // modelRun: no session, no history
	state     runState
	message   string // dropped at the end
	sess      *session
	conn      *conn
	reqID     string
	timeout   time.Duration // 0 = none
	deadline  time.Time
	timer     *time.Timer
	armed     uint64 // grows with every arming and stop: a timer of an older one is void
	plan      *plan  // of the model call, nil before and after
	shown     int    // bytes of the reply sent as deltas
	seq       int
	accepted  int64
	started   int64
	ended     int64
	input     int // tokens; 0: no model call
	cached    int // of them
	model     string
	out       outcome
	dropFinal bool
	failRun   bool
	notify    chan struct{} // closed at the end, for HTTP callers
	spawned   []acceptedSpawn
	sub       subAgentOf
}

func (r *run) stopTimer() {
	r.armed++
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}

func (r *run) running() bool { return r.state == statePreparing || r.state == stateModel }

// shownText is what of the reply was sent so far.
func (r *run) shownText() string {
	if r.plan == nil {
		return ""
	}
	return r.plan.reply[:r.shown]
}

// arm runs next after d, or ends the run when its own time is over before that.
// A run has at most one timer; it replaces the one before.
func (g *Gateway) arm(l *life, r *run, d time.Duration, next func()) {
	if !r.deadline.IsZero() {
		if left := time.Until(r.deadline); left <= d {
			g.later(l, r, max(left, 0), func() { g.finish(l, r, timedOut()) })
			return
		}
	}
	g.later(l, r, d, next)
}

// later sets the run's timer. One that has fired waits for g.mu and cannot be
// stopped: it does nothing when the run ended or was armed anew meanwhile.
func (g *Gateway) later(l *life, r *run, d time.Duration, f func()) {
	r.stopTimer()
	armed := r.armed
	r.timer = g.after(l, d, func() {
		if r.armed == armed {
			f()
		}
	})
}

// waitForDeadline leaves the run to its deadline or an abort: the model hangs.
func (g *Gateway) waitForDeadline(l *life, r *run) {
	r.stopTimer()
	// The provider's own idle limit of a self-hosted endpoint.
	g.arm(l, r, g.scaled(300*time.Second), func() { g.finish(l, r, timedOut()) })
}

// submission is what a client asks to run.
type submission struct {
	id, key, message string
	model            string // empty: the default
	via              via
	bare             bool
	timeout          time.Duration
	conn             *conn
	reqID            string
	sub              subAgentOf
}

// accept takes a submission whose id is free. Callers answer with `accepted`
// before calling place.
func (g *Gateway) accept(l *life, s submission) *run {
	r := &run{
		id: s.id, key: s.key, message: s.message, model: s.model, via: s.via, bare: s.bare, timeout: s.timeout,
		conn: s.conn, reqID: s.reqID, accepted: nowMs(), sub: s.sub,
	}
	g.log(l, r, LogAccepted)
	l.runs[r.id] = r
	l.open++
	if r.bare {
		r.sessionID = deriveID(r.id)
		return r
	}
	r.sess = g.store.session(r.key)
	r.sessionID = r.sess.ID
	if r.via == viaAgent {
		g.store.putTask(taskRow{ID: deriveID("task:" + r.id), RunID: r.id, Key: r.key, Status: "running", Created: r.accepted})
	}
	if r.sub.Owner == "" && !g.immediate(l, r) {
		g.store.addPending(r.sess, r.id, r.message, r.accepted)
	}
	return r
}

func (g *Gateway) immediate(l *life, r *run) bool {
	return r.sess.active == nil && g.slotFree(l) && g.prepareTime() == 0
}

func (g *Gateway) slotFree(l *life) bool { return l.active < g.limit && len(l.lane) == 0 }

// place starts an accepted run or queues it.
func (g *Gateway) place(l *life, r *run) {
	if s := r.sess; s != nil {
		if s.active != nil {
			r.state = stateQueued
			s.queue = append(s.queue, r)
			return
		}
		s.active = r
	}
	g.enterLane(l, r)
}

func (g *Gateway) enterLane(l *life, r *run) {
	if r.via != viaSubAgent && !g.slotFree(l) {
		r.state = stateLane
		l.lane = append(l.lane, r)
		return
	}
	g.begin(l, r)
}

// pump gives free slots to waiting runs in order.
func (g *Gateway) pump(l *life) {
	for len(l.lane) > 0 && l.active < g.limit && !l.dead {
		r := l.lane[0]
		l.lane[0] = nil
		l.lane = l.lane[1:]
		g.begin(l, r)
	}
}

func (g *Gateway) begin(l *life, r *run) {
	if r.via != viaSubAgent {
		l.active++
	}
	r.state = statePreparing
	if r.timeout > 0 {
		r.deadline = time.Now().Add(r.timeout)
	}
	r.started = nowMs()
	g.emitPreparing(l, r)
	if wait := g.prepareTime(); wait > 0 {
		g.arm(l, r, wait, func() { g.callModel(l, r) })
		return
	}
	g.callModel(l, r)
}

// callModel puts the user's text into the transcript and starts the model call.
func (g *Gateway) callModel(l *life, r *run) {
	if rest, is := command(r.message); is && !r.bare {
		g.store.reset(r.sess)
		if rest == "" {
			g.finish(l, r, outcome{kind: kindOK, text: resetText})
			return
		}
		r.message = rest
	}
	provider, _ := r.provider()
	if left := g.store.offFor(provider); left > 0 {
		g.finish(l, r, disabled(provider, left))
		return
	}
	if provider == unknownProvider {
		g.finish(l, r, r.failed("model"))
		return
	}
	prompt, users := r.message, 1
	if !r.bare {
		switch g.store.userTurn(r.sess, r.id) {
		case turnDeeper:
			g.finish(l, r, outcome{kind: kindStale, text: staleText})
			return
		case turnLast:
			prompt, users = g.store.promptAgain(r.sess, r.id)
		case turnNew:
			prompt, users = g.store.startTurn(r.sess, r.id, r.message, r.via == viaAnnounce)
		}
	}
	r.state = stateModel
	g.log(l, r, LogStarted)
	r.input = 9000 + len(prompt)/4
	r.plan = g.newPlan(prompt, users)
	r.cached = min(r.plan.cached, r.input)
	if provider == refusing {
		r.plan.fail = refusing
	}
	r.failRun = g.hit(g.faults.FailRate)
	if g.hit(g.faults.HangRate) {
		r.plan.fail = "hang"
	} else if r.plan.fail == "" && g.hit(g.faults.ProviderFailRate) {
		r.plan.fail = cmpOr(g.faults.ProviderFail, "500")
	}
	g.emitStart(l, r)
	if r.plan.delay <= 0 && l.depth < maxDepth {
		g.answer(l, r)
		return
	}
	g.arm(l, r, r.plan.delay, func() { g.answer(l, r) })
}

// finish ends a run: log, durable state, events, answer, then the next in line.
func (g *Gateway) finish(l *life, r *run, out outcome) {
	if r.state == stateDone {
		return
	}
	r.stopTimer()
	before := r.state
	r.out, r.ended, r.state = out, nowMs(), stateDone
	g.log(l, r, out.kind.logEvent())
	g.leave(l, r, before)
	if r.sess != nil {
		g.store.endTurn(r.sess, r, before)
	}
	if r.via == viaAgent && !r.bare {
		g.store.putTask(taskOf(r))
	}
	g.spawn(l, r)
	g.emitEnd(l, r, before)
	g.respond(l, r)
	g.wakeWaits(l, r)
	if r.notify != nil {
		close(r.notify)
	}
	l.open--
	s := r.sess
	r.message, r.sess, r.conn, r.plan = "", nil, nil, nil
	g.remember(l, r)
	l.depth++
	defer func() { l.depth-- }()
	if s != nil && s.active == r {
		s.active = nil
		g.advance(l, s)
	}
	g.pump(l)
	g.launch(l, r)
	g.subAgentEnded(l, r)
	g.afterRun(l)
}

// leave takes the run out of the lane or gives its slot back.
func (g *Gateway) leave(l *life, r *run, before runState) {
	switch before {
	case statePreparing, stateModel:
		if r.via != viaSubAgent {
			l.active--
		}
	case stateLane:
		l.lane = slices.DeleteFunc(l.lane, func(x *run) bool { return x == r })
	case stateQueued:
		r.sess.queue = slices.DeleteFunc(r.sess.queue, func(x *run) bool { return x == r })
	}
}

// advance starts the session's next queued run.
func (g *Gateway) advance(l *life, s *session) {
	if len(s.queue) == 0 {
		g.store.evict()
		return
	}
	next := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.active = next
	g.enterLane(l, next)
}

// keepFinished is how long a finished run id is remembered, as a real gateway does.
const keepFinished = 5 * time.Minute

// remember keeps a finished run id with its result, within bounds.
func (g *Gateway) remember(l *life, r *run) {
	l.order = append(l.order, r.id)
	l.kept += len(r.out.text)
	old := r.ended - max(g.scaled(keepFinished), keepFinished).Milliseconds()
	for len(l.order) > g.cfg.MaxFinished || l.runs[l.order[0]].ended < old || l.kept > g.cfg.MaxTranscriptBytes && len(l.order) > 1 {
		l.kept -= len(l.runs[l.order[0]].out.text)
		delete(l.runs, l.order[0])
		l.order = l.order[1:]
	}
}

func (g *Gateway) log(l *life, r *run, event string) {
	message := r.message
	if r.via == viaRecovery && r.sess != nil && r.sess.RunMessage != "" {
		message = r.sess.RunMessage
	}
	g.cfg.Log.write(Line{Gateway: g.cfg.Name, Boot: l.boot, RunID: r.id, Session: r.key, Event: event, Message: message})
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// expandKey makes a full session key of a short one.
func expandKey(key string) string {
	if key == "" {
		return mainSession
	}
	if strings.HasPrefix(key, "agent:") {
		return key
	}
	return "agent:main:" + key
}

const mainSession = "agent:main:main"
