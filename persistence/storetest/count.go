package storetest

import (
	"context"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// Tasks is the part of a store that Count reads.
type Tasks interface {
	Tasks(ctx context.Context, f persistence.TaskFilter, cursor string, limit int) ([]messages.Task, string, error)
}

// Count pages through the matching tasks to their end.
func Count(ctx context.Context, s Tasks, f persistence.TaskFilter) (n int, err error) {
	for cursor := ""; ; {
		page, next, err := s.Tasks(ctx, f, cursor, 1000)
		n += len(page)
		if err != nil || next == "" {
			return n, err
		}
		cursor = next
	}
}
