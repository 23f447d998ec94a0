package sqlite

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/room"
)

// The last of the disk is kept for the tasks that are under way: the log's
// bound twice, for it is copied into the database while it grows.
const (
	reserveLeast = 128 << 20
	reserveMost  = 256 << 20
)

// logBound is the bound of the log where none is configured: a log never gets
// shorter, so on a small disk it must not take the room of everything else.
func logBound(dir string, configured int64) int64 {
	if configured > 0 {
		return configured
	}
	const bound = 64 << 20
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil { // whoever writes meets the error
		return bound
	}
	return min(bound, max(1<<20, int64(s.Blocks)*int64(s.Bsize)/8))
}

// Room tells what the disk has left for new tasks.
func (db *DB) Room() persistence.Room { return db.room.Room() }

// probeRoom looks at the disk, and where that is short also at the pages inside
// the database that are free: what was swept is used again, but never given back.
func (db *DB) probeRoom(ctx context.Context) (persistence.Room, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(db.cfg.Dir, &s); err != nil {
		return persistence.Room{}, fmt.Errorf("read free space: %w", err)
	}
	free, whole := int64(s.Bavail)*int64(s.Bsize), int64(s.Blocks)*int64(s.Bsize)
	reserve := room.Reserve(whole, reserveLeast, reserveMost)
	if free >= reserve {
		return persistence.Room{Left: free - reserve}, nil
	}
	var pages int64
	if err := db.read.QueryRowContext(ctx, `SELECT freelist_count FROM pragma_freelist_count`).Scan(&pages); err != nil {
		return persistence.Room{}, fmt.Errorf("count free pages: %w", err)
	}
	return judgeRoom(db.cfg.Dir, free, reserve, pages*pageSize), nil
}

// judgeRoom decides where the disk is short. Free pages make up for it as long
// as the log, which comes first, has half of the reserve.
func judgeRoom(dir string, free, reserve, inside int64) persistence.Room {
	if left := free + inside - reserve; left > 0 && free >= reserve/2 {
		return persistence.Room{Left: left}
	}
	return persistence.Room{
		Why: fmt.Sprintf("the disk of %s has %s left, and the last %s are kept for the tasks that are under way",
			dir, mebi(free), mebi(reserve)),
		Next: next.FreeDisk,
	}
}

func mebi(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }
