package session

import (
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/dash-fleet/dash/messages"
)

// A run may start sub-agents. They go on after its answer, and the gateway brings
// what each has found to the session in a turn of its own. The task ends when all
// have: its result is the answer and what came late, in this order. Its deadline
// counts on meanwhile; when it is over, or the task is cancelled, they are stopped,
// and the result says how many had not finished.

// blindLimit is how long a run whose answer is known waits for a connection to
// hear of its sub-agents: less than an unreachable gateway keeps its tasks, for
// then the work would be done again.
const blindLimit = 40 * time.Second

// untoldRounds is in how many rounds of questions a failed sub-agent counts as one
// whose end will be told.
const untoldRounds = 6

// maxResult bounds a result with all that came late, in bytes.
const maxResult = 4 << 20

// attend waits for the sub-agents of a run that has answered.
func (d *decision) attend(e Answer) {
	if d.end != nil && !(d.end.unconfirmed || d.end.lost) {
		return
	}
	d.answer, d.subAgents = e.Result, e.Spawned
	if d.answer == nil {
		d.answer = &messages.TaskResult{}
	}
	d.end, d.send = nil, sendInFlight
	d.hurry()
}

// attends reports whether sub-agents keep the task open. That one has failed may
// never be told, when its gateway has died.
func (r *Run) attends(s *SessionRead) bool {
	return s.SubAgents > 0 || s.FailedSubAgents > 0 && r.untold < untoldRounds
}

// count keeps how many sub-agents are missed if the task does not wait any longer.
func (d *decision) count(s *SessionRead) {
	if s.SubAgents > 0 || s.FailedSubAgents == 0 {
		d.untold = 0
	} else {
		d.untold = min(d.untold+1, untoldRounds)
	}
	if d.Task.State != messages.Cancelling { // where they are stopped
		d.subAgents = s.SubAgents + s.FailedSubAgents
	}
}

// outOfSight: the connection is gone, by which the sub-agents were to be heard of.
func (d *decision) outOfSight() {
	if d.answer != nil && d.end == nil {
		d.arm(PollTimer, blindLimit)
	}
}

// settleFor takes the answer without what was to come late, if there is one.
func (d *decision) settleFor() bool {
	if d.answer == nil || d.end != nil {
		return false
	}
	d.ends(Success, d.answer, nil)
	return true
}

// unfinished marks a result that lacks something: sub-agents were at work when
// they were last heard of, and the task did not wait any longer.
func (d *decision) unfinished(res *messages.TaskResult) *messages.TaskResult {
	if d.subAgents == 0 {
		return res
	}
	res = proto.CloneOf(res)
	res.UnfinishedSubAgents = int64(d.subAgents)
	return res
}

// hear adds a turn of the run.
func (t *trace) hear(turn Turn) {
	if turn.Reply != nil {
		t.reply = turn.Reply
	}
	t.late = append(t.late, turn.Late...)
}

// withLate is a result with what came late behind it.
func withLate(res *messages.TaskResult, late []string) *messages.TaskResult {
	if len(late) == 0 {
		return res
	}
	out := &messages.TaskResult{}
	if res != nil {
		out = proto.CloneOf(res)
	}
	parts := late
	if out.GetText() != "" {
		parts = append([]string{out.GetText()}, late...)
	}
	lost := max(0, out.GetCutFrom()-int64(len(out.GetText())))
	out.Text = strings.Join(parts, "\n\n")
	if n := len(out.Text); n > maxResult {
		cut := maxResult
		for cut > 0 && !utf8.RuneStart(out.Text[cut]) {
			cut--
		}
		out.Text, lost = out.Text[:cut], lost+int64(n-cut)
	}
	if out.CutFrom = 0; lost > 0 {
		out.CutFrom = int64(len(out.Text)) + lost
	}
	return out
}
