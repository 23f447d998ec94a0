package rows

import (
	"errors"
	"slices"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

const (
	// SearchStep is how many tasks a search looks at between two looks at the clock.
	SearchStep = 4000
	// FewIDs is up to how many ids of one begin are picked by the index of ids;
	// with more of them the walk from the newest on finds them soon.
	FewIDs = 5000
)

// TaskPage gathers a page, which is bounded in tasks and in bytes, until it
// knows whether another one follows.
type TaskPage struct {
	tasks  []messages.Task
	places []int64
	limit  int
	bytes  int64
	full   bool // the next task did not fit any more
}

// NewTaskPage begins a page of limit tasks.
func NewTaskPage(limit int) *TaskPage { return &TaskPage{limit: limit} }

// Add adds a task with its place and size in bytes, unless that is too much for
// the page, and says whether more may be added. One task always fits.
func (p *TaskPage) Add(t messages.Task, place, size int64) (more bool) {
	if p.full = len(p.tasks) > 0 && p.bytes+size > persistence.PageBytes; p.full {
		return false
	}
	p.tasks, p.places, p.bytes = append(p.tasks, t), append(p.places, place), p.bytes+size
	return p.Missing() > 0
}

// More says that the page is full and another one follows.
func (p *TaskPage) More() bool { return p.full || len(p.tasks) > p.limit }

// Tasks are those of the page; they may be changed in place.
func (p *TaskPage) Tasks() []messages.Task { return p.tasks[:min(p.limit, len(p.tasks))] }

// Missing is how many more tasks Cut needs to know whether this is all.
func (p *TaskPage) Missing() int { return p.limit + 1 - len(p.tasks) }

// Left is how many bytes the page has left.
func (p *TaskPage) Left() int64 { return persistence.PageBytes - p.bytes }

// Cut is the page and where the next one begins, empty at the end.
func (p *TaskPage) Cut() (tasks []messages.Task, next string) {
	if tasks = p.Tasks(); !p.More() {
		return tasks, ""
	}
	return tasks, persistence.Cursor(p.places[len(tasks)-1])
}

// Reread puts tasks in place of those with the given ids, each read in full and
// then shortened. One that is gone meanwhile stays as it is.
func (p *TaskPage) Reread(ids []string, read func(id string) (messages.Task, error)) error {
	for i := range p.tasks {
		if !slices.Contains(ids, p.tasks[i].ID) {
			continue
		}
		t, err := read(p.tasks[i].ID)
		switch {
		case errors.Is(err, persistence.ErrNotFound):
			continue
		case err != nil:
			return err
		}
		Shorten(&t)
		p.tasks[i] = t
	}
	return nil
}

// Search walks the candidates below before (0: all) a step at a time, until the
// page is full, all are looked at, or it is past end. step is the place of the
// last candidate of a step, 0 when the step takes all that are left; fill adds
// what matches in from <= place < before.
func (p *TaskPage) Search(end time.Time, before int64, step func(before int64) (from int64, err error), fill func(from, before int64) error) ([]messages.Task, string, error) {
	for {
		from, err := step(before)
		if err != nil {
			return nil, "", err
		}
		if err := fill(from, before); err != nil {
			return nil, "", err
		}
		if tasks, next := p.Cut(); next != "" || from == 0 {
			return tasks, next, nil
		}
		if time.Now().After(end) {
			return p.tasks, persistence.Cursor(from), nil
		}
		before = from
	}
}
