package session

import (
	"strconv"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// process answers for a gateway process that takes the run and does nothing else,
// until the run is RUNNING there or over.
func process(t *testing.T, run Run, now *time.Time, conn Conn, ended string) Run {
	t.Helper()
	queue := []Event{Connected{Conn: conn, BootID: "b" + strconv.Itoa(int(conn)), Ended: ended}}
	for n := 0; !run.Over(); n++ {
		if run.Task.State == messages.Running && run.Task.BootID == "b"+strconv.Itoa(int(conn)) {
			return run
		}
		if n > 100 {
			t.Fatalf("it goes round and round as %s", run.Task.State)
		}
		if len(queue) == 0 { // nothing happens but time
			*now = now.Add(Grace)
			timer := PollTimer
			if run.armed&(1<<GraceTimer) != 0 {
				timer = GraceTimer
			}
			queue = append(queue, Fired{timer})
		}
		var effects []Effect
		*now = now.Add(time.Millisecond)
		run, effects = Decide(run, Input{Now: *now, Rand: 0.5, Event: queue[0]})
		queue = queue[1:]
		for _, eff := range effects {
			switch e := eff.(type) {
			case *Commit:
				queue = append(queue, Committed{Op: e.Op, Status: CommitOK})
			case ReadSession:
				queue = append(queue, SessionRead{Conn: conn, Key: e.Key})
			case Abort:
				queue = append(queue, AbortAnswer{Conn: conn})
			case AskAlone:
				queue = append(queue, Alone{Conn: conn})
			case Send:
				queue = append(queue, Sent{conn}, Answer{Conn: conn, RunID: e.RunID, Kind: Accepted}, Fired{RunningTimer})
			}
		}
	}
	return run
}

// TestOrderlyRestartsAreNoDeathsButBounded: a gateway that says each time that it
// restarts is believed five times; then its ends count as any others.
func TestOrderlyRestartsAreNoDeathsButBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		announced bool
		processes int
	}{"announced": {true, 8}, "not announced": {false, 3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := claimedTask()
			task.Session = ""
			run, now, n := Start(task, nil, "", true), t0, 0
			for !run.Over() {
				n++
				ended := ""
				if c.announced && n > 1 {
					ended = "b" + strconv.Itoa(n-1)
				}
				run = process(t, run, &now, Conn(n), ended)
				if want := min(n-1, 5); c.announced && n <= 6 && (int(run.Task.Trials.GetStops()) != want || len(run.Task.Trials.GetDeaths()) != 0) {
					t.Fatalf("after %d restarts: %v, want %d stops and no death", n-1, run.Task.Trials, want)
				}
				run, _ = Decide(run, Input{Now: now, Rand: 0.5, Event: Disconnected{Conn(n)}})
				if n > 20 {
					t.Fatal("the same run is started for ever")
				}
			}
			if n != c.processes+1 || run.Task.State != messages.DeadLetter || run.Task.Error.GetCode() != "gateway_crashed" {
				t.Errorf("%d processes, %s, %v", n, run.Task.State, run.Task.Error)
			}
		})
	}
}
