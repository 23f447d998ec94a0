package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

const (
	// taskLogLines may be written in each taskLogWindow: a provider that fails
	// ends thousands of tasks at once, and one line tells of those left out.
	taskLogLines  = 20
	taskLogWindow = 10 * time.Second
)

// taskLog says in the node's log which tasks are held for a decision and which
// became dead letters. It owns one timer while a window is open.
type taskLog struct {
	logger  *slog.Logger
	window  time.Duration
	skipped prometheus.Counter

	mu     sync.Mutex
	closed bool
	timer  *time.Timer // nil: no window is open
	lines  int         // written in this window
	held   int         // left out in this window
	dead   int
}

func newTaskLog(logger *slog.Logger, r prometheus.Registerer) *taskLog {
	l := &taskLog{logger: logger, window: taskLogWindow, skipped: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dash_log_tasks_left_out_total", Help: "Held tasks and dead letters that the log only counts, because too many came at once.",
	})}
	r.MustRegister(l.skipped)
	return l
}

// note looks through the events of a batch. It never waits.
func (l *taskLog) note(events []*messages.Event) {
	for _, e := range events {
		t := e.GetTask()
		if t == nil || t.GetFrom() == t.GetState() {
			continue
		}
		switch t.GetState() {
		case messages.Held.String():
			l.say(&l.held, "task is held, nobody knows how its run ended", e,
				slog.Time("decision_due", time.UnixMicro(e.GetTimeMicros()).UTC().Add(dispatch.HoldFor)),
				slog.String("next_step", fmt.Sprintf(next.ReleaseTask, e.GetSubject())))
		case messages.DeadLetter.String():
			l.say(&l.dead, "task is a dead letter", e, slog.String("code", t.GetError().GetCode()))
		}
	}
}

// say writes one line, or counts it in skipped when the window is full.
func (l *taskLog) say(skipped *int, what string, e *messages.Event, more ...slog.Attr) {
	if !l.admit(skipped) {
		l.skipped.Inc()
		return
	}
	t := e.GetTask()
	attrs := []slog.Attr{slog.String("task", e.GetSubject()), slog.String("tenant", e.GetTenant()), slog.String("pool", t.GetPool())}
	for _, a := range []slog.Attr{slog.String("session", t.GetSession()), slog.String("gateway", t.GetGateway()), slog.String("reason", t.GetReason())} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	attrs = append(attrs, slog.Int("attempt", int(t.GetAttempt())))
	l.logger.LogAttrs(context.Background(), slog.LevelWarn, what, append(attrs, more...)...)
}

func (l *taskLog) admit(skipped *int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer == nil && !l.closed {
		l.timer = time.AfterFunc(l.window, l.turn)
	}
	if l.lines == taskLogLines {
		*skipped++
		return false
	}
	l.lines++
	return true
}

// turn ends a window and tells what was left out of it.
func (l *taskLog) turn() {
	l.mu.Lock()
	held, dead := l.held, l.dead
	l.lines, l.held, l.dead, l.timer = 0, 0, 0, nil
	l.mu.Unlock()
	if held+dead > 0 {
		l.logger.Warn("more tasks were held or became dead letters than the log names",
			slog.Int("held", held), slog.Int("dead_letters", dead), slog.String("within", l.window.String()))
	}
}

// close ends the timer; what was left out is still told.
func (l *taskLog) close() {
	l.mu.Lock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.turn()
}
