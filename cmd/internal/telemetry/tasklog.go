package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

const (
	// taskLogLines may be written in each taskLogWindow: a provider that fails
	// ends thousands of tasks at once, and one line tells of those left out.
	taskLogLines  = 20
	taskLogWindow = 10 * time.Second
)

// TaskLog says in the node's log which tasks are held for a decision and which
// became dead letters. It owns one timer while a window is open.
type TaskLog struct {
	logger  *slog.Logger
	holdFor time.Duration
	window  time.Duration
	skipped prometheus.Counter

	mu     sync.Mutex
	closed bool
	timer  *time.Timer // nil: no window is open
	lines  int         // written in this window
	held   int         // left out in this window
	dead   int
}

// NewTaskLog makes a log of tasks, of which a held one waits holdFor for a decision.
func NewTaskLog(logger *slog.Logger, r prometheus.Registerer, holdFor time.Duration) *TaskLog {
	l := &TaskLog{logger: logger, holdFor: holdFor, window: taskLogWindow, skipped: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dash_log_tasks_left_out_total", Help: "Held tasks and dead letters that the log only counts, because too many came at once.",
	})}
	r.MustRegister(l.skipped)
	return l
}

// Note looks through the events of a batch. It never waits.
func (l *TaskLog) Note(events []*messages.Event) {
	for _, e := range events {
		t := e.GetTask()
		if t == nil || t.GetFrom() == t.GetState() {
			continue
		}
		switch t.GetState() {
		case messages.Held.String():
			l.say(&l.held, "task is held, the outcome of its run is not known", e,
				slog.Time("decision_due", time.UnixMicro(e.GetTimeMicros()).UTC().Add(l.holdFor)),
				slog.String("next_step", fmt.Sprintf(next.ReleaseTask, e.GetSubject())))
		case messages.DeadLetter.String():
			l.say(&l.dead, "task is a dead letter", e, slog.String("code", t.GetError().GetCode()))
		}
	}
}

// say writes one line, or counts it in skipped when the window is full.
func (l *TaskLog) say(skipped *int, what string, e *messages.Event, more ...slog.Attr) {
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

func (l *TaskLog) admit(skipped *int) bool {
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
func (l *TaskLog) turn() {
	l.mu.Lock()
	held, dead := l.held, l.dead
	l.lines, l.held, l.dead, l.timer = 0, 0, 0, nil
	l.mu.Unlock()
	if held+dead > 0 {
		l.logger.Warn("more tasks were held or became dead letters than the log names",
			slog.Int("held", held), slog.Int("dead_letters", dead), slog.String("within", l.window.String()))
	}
}

// Close ends the timer; what was left out is still told.
func (l *TaskLog) Close() {
	l.mu.Lock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.turn()
}
