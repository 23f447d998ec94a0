package rows

import (
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

// TaskPage gathers a page and the first task behind it.
type TaskPage struct {
	tasks  []messages.Task
	places []int64
	limit  int
}

// NewTaskPage begins a page of limit tasks.
func NewTaskPage(limit int) *TaskPage { return &TaskPage{limit: limit} }

// Add adds a task and its place.
func (p *TaskPage) Add(t messages.Task, place int64) {
	p.tasks, p.places = append(p.tasks, t), append(p.places, place)
}

// Missing is how many more tasks Cut needs to know whether this is all.
func (p *TaskPage) Missing() int { return p.limit + 1 - len(p.tasks) }

// Cut is the page and where the next one begins, empty at the end.
func (p *TaskPage) Cut() (tasks []messages.Task, next string) {
	if len(p.tasks) <= p.limit {
		return p.tasks, ""
	}
	return p.tasks[:p.limit], persistence.Cursor(p.places[p.limit-1])
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
