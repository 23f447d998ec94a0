package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages/next"
)

// watcher shows the run of one task as it happens: changes of state and the
// text so far go to stderr.
type watcher struct {
	t    *terminal
	id   string
	mu   sync.Mutex // guards what follows, and the screen
	text int        // bytes of the present run's text that were shown
	run  string
	// open says that the last line on the screen is unfinished text.
	open  bool
	state api.TaskState
	final *api.Task
	// shown is true while all of the present run's text was shown.
	shown bool
}

// watchTask follows a task until it is terminal and returns it. When ctx ends
// it says how to attach again. shown reports that the whole result stands on a
// screen that stdout goes to as well.
func watchTask(ctx context.Context, t *terminal, c *client, id string) (task *api.Task, shown bool, err error) {
	w := &watcher{t: t, id: id}
	reasons, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	beside := *c // the stream goes on to other nodes by itself
	go func() { defer close(ended); w.tellReasons(reasons, &beside) }()
	err = c.stream(ctx, id, w.handle)
	stop()
	<-ended
	w.endLine()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			fmt.Fprintf(t.err, "detached; the task continues\n  attach again: dash task logs %s\n  stop it:      dash task cancel %s\n", id, id)
			return nil, false, quietExit(exitInterrupted)
		}
		return nil, false, err
	}
	shown = t.person && t.width > 0 && w.shown && w.final.Result != nil && w.text == len(w.final.Result.Text)
	return w.final, shown, nil
}

// reasonPause is the first pause between two looks at why a task waits. It doubles
// while nothing changes: many waits share a key's rate.
const reasonPause = time.Second

// pace is the first pause and the longest.
type pace struct{ first, most time.Duration }

var (
	waitingPace = pace{reasonPause, 16 * time.Second}
	// What is at a gateway is seldom kept by anything, and then for long.
	workingPace = pace{4 * time.Second, 64 * time.Second}
)

// tellReasons says what keeps the task, as often as the reason changes, until
// ctx ends. Events tell changes of state only.
func (w *watcher) tellReasons(ctx context.Context, c *client) {
	t := time.NewTicker(reasonPause)
	defer t.Stop()
	beats := t.C
	if w.t.beats != nil {
		beats = w.t.beats
	}
	var said string
	var p pace
	var pause, left time.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case <-beats:
		}
		if now := w.pace(); now != p {
			p, pause, left = now, now.first, now.first
		}
		if left -= reasonPause; p == (pace{}) || left > 0 {
			continue
		}
		pause = min(2*pause, p.most)
		left = pause
		var task api.Task
		if err := c.call(ctx, get("/tasks/"+w.id, nil), &task); err != nil {
			continue // the stream says what is wrong
		}
		if why := deref(task.WaitingReason); why != said && why != "" && w.pace() == p {
			said, pause, left = why, p.first, p.first
			w.mu.Lock()
			w.say("waits: " + why)
			w.mu.Unlock()
		}
	}
}

// pace is how often it is asked what keeps the task; zero: nothing does.
func (w *watcher) pace() pace {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.state {
	case api.TaskStateQueued, api.TaskStateScheduled, api.TaskStateRetryWait, api.TaskStateHeld, api.TaskStateRecovering:
		return waitingPace
	case api.TaskStateClaimed, api.TaskStateRunning, api.TaskStateCancelling:
		return workingPace
	}
	return pace{}
}

func (w *watcher) handle(m api.EventMessage) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.Type == "gap" {
		w.say("some events are no longer kept")
		return nil
	}
	if m.Data == nil {
		return nil
	}
	var err error
	switch m.Type {
	case "snapshot":
		var s api.RunSnapshot
		if err = json.Unmarshal(*m.Data, &s); err == nil {
			w.snapshot(s)
		}
	case "task.state":
		var s api.TaskChanged
		if err = json.Unmarshal(*m.Data, &s); err == nil {
			w.changed(s)
		}
	case "delta":
		var d api.RunDelta
		if err = json.Unmarshal(*m.Data, &d); err == nil {
			w.delta(d)
		}
	case "final":
		var f api.RunFinal
		if err = json.Unmarshal(*m.Data, &f); err == nil {
			w.final = &f.Task
			w.shift(f.Task.State, f.Task.Gateway, nil)
			return errStop
		}
	}
	if err != nil {
		return fmt.Errorf("an event of type %q is not what this version of dash expects: %w", clean(m.Type), err)
	}
	return nil
}

func (w *watcher) snapshot(s api.RunSnapshot) {
	w.shift(s.Task.State, s.Task.Gateway, nil)
	if s.RunId != nil && s.Text != "" {
		w.delta(api.RunDelta{RunId: *s.RunId, Text: s.Text})
	}
}

func (w *watcher) changed(s api.TaskChanged) {
	w.shift(s.State, s.Gateway, s.Reason)
}

func (w *watcher) shift(state api.TaskState, gateway, reason *string) {
	if state == w.state {
		return
	}
	w.state = state
	line := string(state)
	if gateway != nil && *gateway != "" && (state == api.TaskStateClaimed || state == api.TaskStateRunning) {
		line += " on " + *gateway
	}
	if reason != nil && *reason != "" {
		line += ": " + *reason
	}
	w.say(line)
}

// delta shows the part of a run's text that was not shown yet.
func (w *watcher) delta(d api.RunDelta) {
	if d.RunId != w.run {
		w.run, w.text = d.RunId, 0
		w.endLine()
	}
	if d.Reset {
		w.endLine()
		w.text = 0
		d.Offset = 0
	}
	skip := w.text - d.Offset
	if skip >= len(d.Text) {
		return
	}
	w.shown = (w.shown || w.text == 0) && skip >= 0
	text := d.Text[max(0, skip):]
	if skip < 0 {
		text = "…" + text
	}
	fmt.Fprint(w.t.err, clean(text))
	w.text = d.Offset + len(d.Text)
	w.open = !strings.HasSuffix(text, "\n")
}

func (w *watcher) say(line string) {
	w.endLine()
	fmt.Fprintf(w.t.err, "%s %s\n", dim(w.t, "task "+w.id), clean(line))
}

func (w *watcher) endLine() {
	if w.open {
		fmt.Fprintln(w.t.err)
		w.open = false
	}
}

func dim(t *terminal, s string) string {
	if !t.colour() {
		return s
	}
	return "\x1b[2m" + s + "\x1b[0m"
}

// settle prints a terminal task's result and says, by its error, how it ended.
func settle(t *terminal, o output, task *api.Task, shown bool) error {
	if r := task.Result; r != nil && r.Truncated {
		fmt.Fprintf(t.err, "the answer was cut: %d of its %d bytes are kept\n", len(r.Text), r.Length)
	}
	if r := task.Result; r != nil && r.UnfinishedSubAgents > 0 {
		fmt.Fprintf(t.err, "the answer lacks what %d of its sub-agents would have found: they were stopped or lost\n", r.UnfinishedSubAgents)
	}
	if o.format == "table" && len(o.columns) == 0 {
		if task.Result != nil && !shown {
			if err := write(t, t.text(task.Result.Text)); err != nil {
				return err
			}
		}
	} else if err := printOne(t, o, taskColumns, *task); err != nil {
		return err
	}
	if task.State == api.TaskStateSucceeded {
		return nil
	}
	f := &failure{code: exitFailed, what: "task " + task.Id + " ended as " + string(task.State), next: fmt.Sprintf(next.ShowTask, task.Id)}
	if task.Error != nil {
		f.what += ": " + task.Error.Code + ": " + task.Error.Message
	}
	if task.State == api.TaskStateDeadLetter {
		f.next = fmt.Sprintf(next.ReplayTask, task.Id)
	}
	return f
}
