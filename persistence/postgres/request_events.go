package postgres

import (
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/internal/rows"
)

// One row of the event log holds at most so many entries and bytes (plus the
// last op's), so that a reader never loads a huge batch for one entry.
const (
	eventsPerRow     = 512
	eventBytesPerRow = 256 << 10
)

func (r *request) addEvents(group int, events []*messages.Event) (err error) {
	before := len(r.events)
	for _, e := range events {
		if r.events, err = rows.AppendEvent(r.events, e); err != nil {
			return err
		}
	}
	size := len(r.events) - before
	r.eventGroups.int4(group)
	r.eventCounts.int4(len(events))
	r.eventSizes.int4(size)
	r.openEvents += len(events)
	r.openBytes += size
	if r.openEvents >= eventsPerRow || r.openBytes >= eventBytesPerRow {
		r.endPart()
	}
	return nil
}

// endPart closes the row of the log under way.
func (r *request) endPart() {
	if r.openEvents > 0 {
		r.partCounts.int4(r.openEvents)
		r.partSizes.int4(r.openBytes)
	}
	r.openEvents, r.openBytes = 0, 0
}
