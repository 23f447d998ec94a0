package session

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// Decide is the machine as a pure function, as the stories and the search see
// it: r stays as it was.
func Decide(r Run, in Input) (Run, []Effect) {
	d := decision{Run: r}
	d.take(in)
	for _, e := range d.effects {
		if c, ok := e.(*Commit); ok {
			for _, s := range steps(c) {
				taken.Store(s, true)
			}
		}
	}
	return d.Run, d.effects
}

// taken are the steps of a task that the tests of this package have asked to be
// made durable.
var taken sync.Map // of messages.Transition[messages.TaskState]

// steps are what a Commit writes, as the event log tells of it.
func steps(c *Commit) (out []messages.Transition[messages.TaskState]) {
	from := c.From
	if c.Via != 0 {
		out = append(out, messages.Transition[messages.TaskState]{From: from, Event: "accepted", To: c.Via})
		from = c.Via
	}
	return append(out, messages.Transition[messages.TaskState]{From: from, Event: c.Reason, To: c.Task.State})
}

// TestMain also checks that all tests together take every row of the table that
// is a run's. Those of the pool's owner are checked in dispatch.
func TestMain(m *testing.M) {
	code := m.Run()
	if flag.Lookup("test.run").Value.String() == "" && !raceDetector && !untaken() && code == 0 {
		code = 1
	}
	os.Exit(code)
}

func untaken() bool {
	pool := map[string]bool{"refused": true, "away_requeue": true, "away_hold": true, "given_up": true}
	ok := true
	for _, r := range messages.TaskTransitions {
		if _, done := taken.Load(r); !done && r.From.AtGateway() && !pool[r.Event] {
			ok = false
			fmt.Printf("no test takes the step %v -> %v by %q\n", r.From, r.To, r.Event)
		}
	}
	return ok
}
