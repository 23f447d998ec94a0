package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

const (
	// shortestEnd is how many characters of an id's end are enough to name it.
	// Tasks made in the same minute begin alike, so people type the end.
	shortestEnd = 4
	// likeThem is how many ids an ambiguous one is told with.
	likeThem = 4
)

// actsOn are the tasks that a verb can change; a short id is then looked for
// among all of them, and names one only if no other is like it. The zero value
// is for verbs that show: they look at the newest tasks for as long as the
// server gives them.
type actsOn struct {
	states []string
	words  string
}

var (
	openTasks   = actsOn{openStates(), "open task"}
	heldTasks   = actsOn{[]string{messages.Held.String()}, "held task"}
	deadLetters = actsOn{[]string{messages.DeadLetter.String()}, "dead letter"}
)

func openStates() (names []string) {
	for s := messages.Scheduled; !s.Terminal(); s++ {
		names = append(names, s.String())
	}
	return names
}

// taskID finds the one task that a user meant by a full id, by its beginning or
// by its end.
func taskID(ctx context.Context, c *client, short string, among actsOn) (string, error) {
	if err := messages.CheckID(short); err != nil {
		return "", usage(fmt.Sprintf(next.ListIDs, "task"), "%q is not an id of a task: %s", short, err)
	}
	if len(short) >= fullTaskID {
		return short, nil
	}
	search := taskSearch{c: c, among: among}
	if len(short) >= shortestEnd {
		if err := search.by(ctx, "id_end", short); err != nil {
			return "", err
		}
	}
	if err := search.by(ctx, "id_begin", short); err != nil {
		return "", err
	}
	found := search.found
	switch {
	case len(found) > 1:
		return "", &failure{code: exitConflict, next: next.MoreOfID,
			what: fmt.Sprintf("%q fits %s tasks: %s", short, search.number(), strings.Join(found[:min(len(found), likeThem)], ", "))}
	case len(found) == 0 && among.words != "":
		return "", &failure{code: exitNotFound, what: fmt.Sprintf("there is no %s whose id begins or ends with %q", among.words, short),
			next: fmt.Sprintf(next.ShowsWhatItIs, shellWord(short))}
	case len(found) == 0:
		return "", &failure{code: exitNotFound, what: fmt.Sprintf("there is no task whose id begins or ends with %q%s", short, search.reach()),
			next: next.GiveWholeID}
	}
	if among.words == "" && !search.to.IsZero() {
		fmt.Fprintf(c.talk, "%s is the only one like %q%s\n", clean(found[0]), clean(short), search.reach())
	}
	return found[0], nil
}

// taskSearch collects the tasks whose ids are like a short one.
type taskSearch struct {
	c     *client
	among actsOn
	found []string
	to    time.Time // not zero: only tasks created after it were looked at
	more  bool
}

// by looks by one of the API's parameters. What changes something looks at
// every page; two ids that fit are enough to refuse.
func (s *taskSearch) by(ctx context.Context, parameter, short string) error {
	q := query(parameter, short, "state", strings.Join(s.among.states, ","), "limit", fmt.Sprint(likeThem+1))
	for {
		var p api.TaskPage
		if err := s.c.call(ctx, get("/tasks", q), &p); err != nil {
			return err
		}
		for _, t := range p.Items {
			if !slices.Contains(s.found, t.Id) {
				s.found = append(s.found, t.Id)
			}
		}
		last := deref(p.NextCursor) == ""
		switch {
		case len(s.found) > 1:
			s.more = s.more || !last
			return nil
		case last:
			return nil
		case s.among.words == "":
			if p.SearchedTo != nil && p.SearchedTo.After(s.to) {
				s.to = *p.SearchedTo
			}
			return nil
		}
		q.Set("cursor", *p.NextCursor)
	}
}

func (s *taskSearch) number() string {
	if s.more {
		return fmt.Sprintf("%d or more", len(s.found))
	}
	return fmt.Sprint(len(s.found))
}

// reach says how far the search looked, if not at every task.
func (s *taskSearch) reach() string {
	if s.to.IsZero() {
		return ""
	}
	return " among those created since " + when(&s.to)
}
