package openclawtest

import (
	"container/list"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// meta is what a session keeps over a crash besides its transcript.
type meta struct {
	Key            string         `json:"key"`
	ID             string         `json:"id"`
	Model          string         `json:"model,omitempty"`
	Status         string         `json:"status,omitempty"`
	AbortedLastRun bool           `json:"abortedLastRun,omitempty"`
	Created        int64          `json:"created,omitempty"`
	Updated        int64          `json:"updated,omitempty"`
	Started        int64          `json:"started,omitempty"`
	Ended          int64          `json:"ended,omitempty"`
	Tokens         int            `json:"tokens,omitempty"`
	Reruns         int            `json:"reruns,omitempty"`     // automatic re-runs of the interrupted turn
	RunID          string         `json:"runId,omitempty"`      // run of the turn under way
	RunMessage     string         `json:"runMessage,omitempty"` // its task message
	Turns          int            `json:"turns,omitempty"`      // user messages of the prompt; neighbours count once
	Seq            int            `json:"seq,omitempty"`        // entries ever written
	Pending        []pendingInput `json:"-"`                    // has records of its own
	Leftover       []string       `json:"leftover,omitempty"`   // aborted before the transcript; lead the next prompt
}

// pendingInput was accepted and is not in the transcript yet.
type pendingInput struct {
	RunID       string `json:"runId"`
	Message     string `json:"message"`
	AcceptedAt  int64  `json:"acceptedAt"`
	Interrupted bool   `json:"interrupted,omitempty"`
}

// entry is one item of a transcript.
type entry struct {
	Seq  int    `json:"seq"`
	Role string `json:"role"`           // user, assistant, custom
	By   string `json:"by,omitempty"`   // run that wrote it
	Hide bool   `json:"hide,omitempty"` // not shown: nobody has said it
	Text string `json:"text"`
	Key  string `json:"key,omitempty"` // idempotencyKey of a user entry
	Time int64  `json:"time"`
	Stop string `json:"stop,omitempty"`
	In   int    `json:"in,omitempty"`
	Out  int    `json:"out,omitempty"`
}

// session is a transcript with the runs that want to add to it. Guarded by g.mu.
type session struct {
	meta
	entries []entry
	bytes   int

	active *run   // holds the session, running or waiting for a slot
	queue  []*run // FIFO behind it
	elem   *list.Element
}

const systemRerun = "[System] Your previous turn was interrupted by a gateway restart while the model was still working. Continue from the existing transcript and finish the interrupted response."

const queuedPrefix = "[Queued user message from a previous active turn; it was not answered]\n"

type turn uint8

const (
	turnNew    turn = iota // the key is not in the transcript
	turnLast               // it is the last user turn: the model is called again
	turnDeeper             // it lies deeper: the run fails without a model call
)

func (st *store) session(key string) *session {
	s := st.sessions[key]
	if s == nil {
		now := nowMs()
		s = &session{meta: meta{Key: key, ID: uuid.NewString(), Created: now, Updated: now}}
		st.sessions[key] = s
		s.elem = st.lru.PushFront(s)
		st.saveMeta(s)
		st.evict()
	}
	st.touch(s)
	return s
}

func (st *store) touch(s *session) { st.lru.MoveToFront(s.elem) }

func (st *store) userTurn(s *session, runID string) turn {
	key := runID + ":user"
	last := true
	for i := len(s.entries) - 1; i >= 0; i-- {
		e := &s.entries[i]
		if e.Role != "user" {
			continue
		}
		if e.Key == key {
			if last {
				return turnLast
			}
			return turnDeeper
		}
		last = false
	}
	return turnNew
}

// startTurn writes the user's text to the transcript, durably, and returns the
// prompt's last user text and how many user messages the prompt has. Texts left
// by an aborted or interrupted turn without an answer lead the new one.
func (st *store) startTurn(s *session, runID, message string, hide bool) (prompt string, users int) {
	var lead []string
	for i := len(s.entries) - 1; i >= 0 && s.entries[i].Role == "user"; i-- {
		lead = append(lead, s.entries[i].Text)
	}
	slices.Reverse(lead)
	lead = append(lead, s.Leftover...)
	users = s.Turns
	if len(s.entries) == 0 || s.entries[len(s.entries)-1].Role != "user" {
		users++
	}
	if !hide { // later prompts leave it out
		s.Turns = users
	}
	s.Leftover = nil
	st.markRunning(s, runID, message)
	st.append(s, entry{Role: "user", Text: message, Key: runID + ":user", Hide: hide})
	st.dropPending(s, runID) // after the transcript has it: a crash between must not lose it
	return leadPrompt(lead, message), users
}

// promptAgain is startTurn for a key that already is the last user turn: the
// transcript gets no second user entry. Unanswered texts right in front of it
// lead it as they did the first time.
func (st *store) promptAgain(s *session, runID string) (prompt string, users int) {
	at := slices.IndexFunc(s.entries, func(e entry) bool { return e.Key == runID+":user" })
	first := at
	for first > 0 && s.entries[first-1].Role == "user" {
		first--
	}
	var lead []string
	for _, e := range s.entries[first:at] {
		lead = append(lead, e.Text)
	}
	message := s.entries[at].Text
	st.markRunning(s, runID, message)
	st.saveMeta(s)
	st.dropPending(s, runID)
	return leadPrompt(lead, message), s.Turns
}

func leadPrompt(lead []string, message string) string {
	if len(lead) == 0 {
		return message
	}
	return queuedPrefix + strings.Join(lead, "\n\n") + "\n\n" + message
}

func (st *store) markRunning(s *session, runID, message string) {
	s.Status, s.Started, s.Ended, s.Updated, s.RunID = "running", nowMs(), 0, nowMs(), runID
	if s.RunMessage == "" || message != systemRerun {
		s.RunMessage = message
	}
}

// endTurn writes what a run leaves in its session.
func (st *store) endTurn(s *session, r *run, before runState) {
	now := nowMs()
	st.dropPending(s, r.id)
	if before == stateQueued {
		return
	}
	s.Updated, s.Ended, s.AbortedLastRun, s.Reruns = now, now, false, 0
	s.RunID, s.RunMessage = "", ""
	u := r.usage()
	if u == nil {
		u = &usage{}
	}
	switch r.out.kind {
	case kindOK:
		s.Status, s.Tokens = "done", u.Total
		st.append(s, entry{Role: "assistant", Text: r.out.text, Stop: "stop", In: u.Input, Out: u.Output, By: r.id})
	case kindAborted:
		s.Status = "timeout"
		if r.via == viaRecovery && before != stateRerun { // one that had begun leaves its mark behind
			s.Status, s.AbortedLastRun = "killed", true
		}
		switch {
		case before == stateModel && r.shown > 0:
			st.append(s, entry{Role: "assistant", Text: r.plan.reply[:r.shown], Stop: "aborted", In: u.Input})
		case before == statePreparing:
			s.Leftover = append(s.Leftover, r.message)
			st.saveMeta(s)
		default:
			st.saveMeta(s)
		}
	case kindStale:
		s.Status = "failed"
		st.append(s, entry{Role: "assistant", Text: r.out.text, Stop: "terminal-error"})
	default:
		s.Status = "failed"
		text := r.out.text
		if r.out.fail != nil {
			text = r.out.fail.message
		} else {
			s.Status = "timeout"
		}
		st.append(s, entry{Role: "custom", Text: text})
	}
}

func (st *store) addPending(s *session, runID, message string, at int64) {
	st.dropPending(s, runID)
	s.Pending = append(s.Pending, pendingInput{RunID: runID, Message: message, AcceptedAt: at})
	s.Updated = at
	st.savePending(s, s.Pending[len(s.Pending)-1])
}

func (st *store) dropPending(s *session, runID string) {
	at := slices.IndexFunc(s.Pending, func(p pendingInput) bool { return p.RunID == runID })
	if at < 0 {
		return
	}
	s.Pending = slices.Delete(s.Pending, at, at+1)
	st.put(record{Op: "unpend", Key: s.Key, RunID: runID})
}

// append adds an entry and saves it together with the session's meta.
func (st *store) append(s *session, e entry) {
	s.Seq++
	e.Seq, e.Time = s.Seq, nowMs()
	s.entries = append(s.entries, e)
	st.grow(s, len(e.Text))
	for len(s.entries) > st.cfg.MaxEntries {
		st.grow(s, -len(s.entries[0].Text))
		s.entries = slices.Delete(s.entries, 0, 1)
	}
	st.saveEntry(s, e)
	st.evict()
}

func (st *store) grow(s *session, n int) {
	s.bytes += n
	st.bytes += n
}

// evict forgets idle sessions, the longest unused first, while a bound is passed.
func (st *store) evict() {
	for e := st.lru.Back(); e != nil && (len(st.sessions) > st.cfg.MaxSessions || st.bytes > st.cfg.MaxTranscriptBytes); {
		s := e.Value.(*session)
		e = e.Prev()
		if s.active == nil && len(s.queue) == 0 && len(s.Pending) == 0 && st.lru.Front() != s.elem {
			st.remove(s)
		}
	}
}

func (st *store) remove(s *session) {
	st.grow(s, -s.bytes)
	delete(st.sessions, s.Key)
	st.lru.Remove(s.elem)
	st.saveRemoval(s)
}

// reset empties the transcript and begins a new generation of it.
func (st *store) reset(s *session) {
	st.grow(s, -s.bytes)
	s.entries, s.ID = nil, uuid.NewString()
	s.Turns, s.Seq, s.Reruns, s.Tokens = 0, 0, 0, 0
	s.Pending, s.Leftover = nil, nil
	s.Status, s.AbortedLastRun, s.Updated = "", false, nowMs()
	st.saveReset(s)
}

// deriveID makes a stable id in the form of a UUID.
func deriveID(of string) string {
	sum := sha256.Sum256([]byte(of))
	return uuid.UUID(sum[:16]).String()
}
