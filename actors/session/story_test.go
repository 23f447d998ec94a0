package session

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dash-fleet/dash/messages"
)

var update = flag.Bool("update", false, "rewrite testdata/*.txt with what the machine does now")

// TestStories plays testdata/*.txt: each line without indentation is an input,
// the indented lines below it are what the machine does. Review a change of
// these files as a change of behaviour.
func TestStories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(got, string(want)); diff != "" {
				t.Errorf("the machine tells another story (-got +want); -update rewrites it:\n%s", diff)
			}
		})
	}
}

func tell(t *testing.T, script string) string {
	t.Helper()
	var out bytes.Buffer
	s := story{now: t0}
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "  "):
			continue // what it did when the file was written
		case line == "" || line[0] == '#':
			fmt.Fprintln(&out, line)
			continue
		}
		fmt.Fprintln(&out, line)
		effects, err := s.play(strings.Fields(line))
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		for _, e := range effects {
			fmt.Fprintln(&out, "  "+describe(e))
		}
	}
	return out.String()
}

type story struct {
	run Run
	now time.Time
}

func (s *story) play(f []string) ([]Effect, error) {
	args := map[string]string{}
	for _, a := range f[1:] {
		k, v, _ := strings.Cut(a, "=")
		args[k] = v
	}
	if f[0] == "start" {
		s.start(args)
		return nil, nil
	}
	if d, ok := args["after"]; ok {
		pause, err := time.ParseDuration(d)
		if err != nil {
			return nil, err
		}
		s.now = s.now.Add(pause)
	}
	e, err := s.event(f[0], f[1:], args)
	if err != nil {
		return nil, err
	}
	var effects []Effect
	s.run, effects = Decide(s.run, Input{Now: s.now, Rand: 0.5, Event: e})
	return effects, nil
}

func (s *story) start(args map[string]string) {
	s.now = t0
	task, sess := claimedTask(), idleSession()
	if name, ok := args["state"]; ok {
		task.State, _ = messages.ParseTaskState(name)
	}
	task.BootID = args["boot"]
	if _, ok := args["hold"]; ok {
		task.Spec.OnUnknown = string(messages.Hold)
	}
	if _, ok := args["throw-away"]; ok {
		task.Session, sess = "", nil
	}
	if _, ok := args["last-attempt"]; ok {
		task.Attempt = task.Spec.MaxAttempts
	}
	if n, err := strconv.Atoi(args["deaths"]); err == nil {
		for range n {
			task.CountDeath(t0, false)
		}
	}
	if _, ok := args["at-work"]; ok {
		task.ActiveSince = t0
	}
	_, found := args["found"]
	s.run = Start(task, sess, "", !found)
}

var (
	kindNames = map[string]Kind{"accepted": Accepted, "in_flight": InFlight, "success": Success, "failed": Failed,
		"aborted": Aborted, "timed_out": TimedOut, "refused": Refused, "open": Open}
	timerNames = map[string]TimerKind{"poll": PollTimer, "grace": GraceTimer, "deadline": DeadlineTimer, "stop": StopTimer, "store": StoreTimer,
		"running": RunningTimer}
	commitNames = map[string]CommitStatus{"ok": CommitOK, "conflict": CommitConflict, "fenced": CommitFenced, "failed": CommitFailed}
)

func name[V comparable](m map[string]V, v V) string {
	for k, x := range m {
		if x == v {
			return k
		}
	}
	return "?"
}

func (s *story) event(verb string, words []string, args map[string]string) (Event, error) {
	conn, word := s.run.conn, ""
	if len(words) > 0 {
		word = words[0]
		if n, err := strconv.Atoi(word); err == nil {
			conn = Conn(n)
		}
	}
	var err *messages.TaskError
	if code, ok := args["final"]; ok {
		err = &messages.TaskError{Code: code}
	}
	list := func(k string) []string {
		return strings.FieldsFunc(args[k], func(r rune) bool { return r == ',' })
	}
	_, held := args["held"]
	switch verb {
	case "connected":
		return Connected{Conn: conn, BootID: words[1]}, nil
	case "disconnected":
		return Disconnected{conn}, nil
	case "sent":
		return Sent{conn}, nil
	case "not-sent":
		return NotSent{conn}, nil
	case "answer":
		return Answer{Conn: conn, RunID: s.run.Task.RunID(), Kind: kindNames[word], Error: err}, nil
	case "wait":
		return WaitAnswer{Conn: conn, RunID: s.run.tracked(), Kind: kindNames[word], Error: err}, nil
	case "abort":
		return AbortAnswer{Conn: conn, Runs: list("runs")}, nil
	case "ask-failed":
		return AskFailed{conn}, nil
	case "run-ended":
		return RunEnded{Conn: conn, RunID: word}, nil
	case "timer":
		return Fired{timerNames[word]}, nil
	case "stop":
		return StopRequested{At: s.now}, nil
	case "withdrawn":
		return Withdrawn{Claim: s.run.Task.Claim, Held: held}, nil
	case "read":
		return s.read(conn, args, list), nil
	case "commit":
		return s.commit(word, args)
	}
	return nil, fmt.Errorf("unknown input %q", verb)
}

func (s *story) read(conn Conn, args map[string]string, list func(string) []string) Event {
	r := SessionRead{Conn: conn, Key: s.run.Task.SessionKey(), ActiveRuns: list("active"), Pending: list("pending")}
	_, r.Busy = args["busy"]
	_, r.AbortedLastRun = args["aborted"]
	for _, t := range list("turns") {
		run, what, _ := strings.Cut(t, ":")
		turn := Turn{RunID: run, Bare: what == "bare"}
		if what == "reply" {
			turn.Reply = &messages.TaskResult{Text: "reply"}
		}
		r.Turns = append(r.Turns, turn)
	}
	return r
}

func (s *story) commit(word string, args map[string]string) (Event, error) {
	if s.run.commit == nil {
		return nil, fmt.Errorf("no commit is under way")
	}
	c := Committed{Op: s.run.commit.Op, Status: commitNames[word]}
	if name, ok := args["state"]; ok {
		row := s.run.Task
		row.State, _ = messages.ParseTaskState(name)
		if n, err := strconv.ParseInt(args["claim"], 10, 64); err == nil {
			row.Claim = n
		}
		c.Current = &row
	}
	return c, nil
}

func describe(e Effect) string {
	switch e := e.(type) {
	case Send:
		s := fmt.Sprintf("send %s on %d in %s", e.RunID, e.Conn, e.SessionKey)
		if e.Replay {
			s += " with the history"
		}
		return s
	case ReadSession:
		return fmt.Sprintf("read %s on %d", e.Key, e.Conn)
	case Wait:
		return fmt.Sprintf("wait for %s on %d", e.RunID, e.Conn)
	case Abort:
		return fmt.Sprintf("abort %s on %d", e.Key, e.Conn)
	case Arm:
		return fmt.Sprintf("arm %s %v", name(timerNames, e.Timer), e.After)
	case Disarm:
		return "disarm " + name(timerNames, e.Timer)
	case *Commit:
		return describeCommit(e)
	case Ended:
		return "report ended " + e.Ended.Task.State.String()
	case Returned:
		return fmt.Sprintf("report returned claim %d: %s", e.Claim, e.Reason)
	case SessionChanged:
		return fmt.Sprintf("report session generation %d", e.Session.Generation)
	case Proof:
		return "report proof " + e.Task.State.String()
	case Fence:
		return "fence " + e.Key
	case DeleteSession:
		return "delete " + e.Key
	case Release:
		return "release"
	case Suspected:
		return "suspected"
	case AskAlone:
		return "ask to be alone"
	}
	return fmt.Sprintf("unknown effect %T", e)
}

func describeCommit(c *Commit) string {
	s := fmt.Sprintf("commit %v -> %v (%s)", c.From, c.Task.State, c.Reason)
	if c.Via != 0 {
		s = fmt.Sprintf("commit %v -> %v -> %v (%s)", c.From, c.Via, c.Task.State, c.Reason)
	}
	if c.Task.BootID != "" {
		s += " boot=" + c.Task.BootID
	}
	if c.Task.ObservedRunID != "" {
		s += " observed=" + c.Task.ObservedRunID
	}
	if c.Session != nil {
		s += fmt.Sprintf(" session generation %d %v", c.Session.Generation, c.Session.State)
	}
	if c.Task.State == messages.RetryWait {
		s += fmt.Sprintf(" due=+%v", c.Task.DueAt.Sub(t0))
	}
	if c.Task.State == messages.Cancelled {
		s += fmt.Sprintf(" confirmed=%v", c.Task.Cancel.Confirmed == messages.Confirmed)
	}
	if c.Task.Error != nil && !c.Task.State.AtGateway() {
		s += " error=" + c.Task.Error.Code
	}
	return s
}
