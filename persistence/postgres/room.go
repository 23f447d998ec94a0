package postgres

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// codeDiskFull is the SQLSTATE of a server that could not extend a file.
const codeDiskFull = "53100"

// fullFor is how long new tasks are refused after the server had no room for a
// batch. What is under way goes on trying: an update may fit where an insert
// does not. Then a new task is the next probe.
const fullFor = 15 * time.Second

// fullness is when the server last said that its disk is full. It does not tell
// how much is left: that takes rights on its machine.
type fullness struct{ at atomic.Pointer[time.Time] }

// Room tells whether the server had room for the last batches.
func (db *DB) Room() persistence.Room {
	if at := db.full.at.Load(); at == nil || time.Since(*at) > fullFor {
		return persistence.Room{Left: -1}
	}
	return persistence.Room{
		Why:  "the disk of the PostgreSQL server is full",
		Next: next.FreeServerDisk,
	}
}

// noteFull takes the server's word that its disk is full.
func (db *DB) noteFull(err error) {
	if sqlState(err) != codeDiskFull {
		return
	}
	if !db.Room().Full() {
		db.cfg.Logger.Error("the disk of the PostgreSQL server is full; submits are refused, what is under way goes on trying", slog.Any("err", err))
	}
	now := time.Now()
	db.full.at.Store(&now)
}
