package dispatch

import "time"

// alarm is the one moment at which a task has to be looked at again.
type alarm struct {
	task string
	at   int64 // µs since 1970
	i    int
}

func (t *alarm) less(o *alarm) bool { return t.at < o.at }
func (t *alarm) place() *int        { return &t.i }

// alarms is a heap of moments, at most one per task.
type alarms struct {
	byTask map[string]*alarm
	heap   heap[*alarm]
}

// set arms, moves or (at 0) removes the task's alarm.
func (a *alarms) set(task string, at int64) {
	t := a.byTask[task]
	switch {
	case t == nil && at != 0:
		t = &alarm{task: task, at: at}
		if a.byTask == nil {
			a.byTask = map[string]*alarm{}
		}
		a.byTask[task] = t
		a.heap.push(t)
	case t != nil && at != 0:
		t.at = at
		a.heap.fix(t)
	case t != nil:
		a.heap.remove(t)
		delete(a.byTask, task)
	}
}

// ring removes and returns the next task whose moment has come.
func (a *alarms) ring(now int64) (string, bool) {
	t, ok := a.heap.top()
	if !ok || t.at > now {
		return "", false
	}
	a.set(t.task, 0)
	return t.task, true
}

// next is how long to wait for the first alarm; false: there is none.
func (a *alarms) next(now int64) (time.Duration, bool) {
	t, ok := a.heap.top()
	if !ok {
		return 0, false
	}
	return max(0, time.Duration(t.at-now)*time.Microsecond), true
}

// drain measures how many tasks leave a queue per second, over ten seconds.
type drain struct {
	slots [10]int
	last  int64 // second of the newest slot
}

func (d *drain) roll(now time.Time) {
	sec := now.Unix()
	if sec-d.last > int64(len(d.slots)) {
		d.last = sec - int64(len(d.slots))
	}
	for d.last < sec {
		d.last++
		d.slots[d.last%int64(len(d.slots))] = 0
	}
}

func (d *drain) add(now time.Time, n int) {
	d.roll(now)
	d.slots[d.last%int64(len(d.slots))] += n
}

func (d *drain) perSecond(now time.Time) float64 {
	d.roll(now)
	sum := 0
	for _, n := range d.slots {
		sum += n
	}
	return float64(sum) / float64(len(d.slots))
}

// Bounds of Retry-After when a queue is full.
const (
	minRetryAfter     = time.Second
	maxRetryAfter     = time.Minute
	fullRetry         = 5 * time.Second  // an operator has to make room
	unknownRetryAfter = 10 * time.Second // nothing has left the queue lately
)

// retryAfter estimates when a twentieth of a full queue will have left it, so
// that clients come back to room and not to one place.
func retryAfter(limit int, perSecond float64) time.Duration {
	if perSecond <= 0 {
		return unknownRetryAfter
	}
	seconds := float64(limit/20+1) / perSecond
	return max(minRetryAfter, min(maxRetryAfter, time.Duration(seconds*float64(time.Second)).Round(time.Second)))
}
