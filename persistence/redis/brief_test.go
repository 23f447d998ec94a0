package redis

import (
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// TestATaskThatGoesWhileItIsListed is in no list: a row that has to be read in full
// may have been swept since its ends were read.
func TestATaskThatGoesWhileItIsListed(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{URL: testserver.NewRedis(t, testserver.RedisOptions{}).URL()})
	defer closeDB(t, db)
	odd := &brief{id: messages.NewID(), task: rows.Cut{Head: make([]byte, rows.BriefHead), Tail: make([]byte, rows.BriefTail), Size: 1 << 20}}
	more, err := db.match(t.Context(), &persistence.TaskFilter{}, odd, func(task messages.Task, _ int64, _ *brief) bool {
		t.Errorf("%q is listed", task.ID)
		return true
	})
	if err != nil || !more {
		t.Errorf("more %v, %v; want the next one", more, err)
	}
}
