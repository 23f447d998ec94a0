package redis

import "github.com/dash-fleet/dash/persistence"

// The task history's types, under the names used here.
type (
	Record  = persistence.HistoryRecord
	Mark    = persistence.HistoryMark
	History = persistence.History
)
