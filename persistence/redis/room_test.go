package redis

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/testserver"
)

func TestJudgeRoom(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		name               string
		used, limit, apart int64
		left               int64
		full               bool
	}{
		{"no limit", 1000 * mib, 0, 0, -1, false},
		{"room", 50 * mib, 100 * mib, 0, 34 * mib, false},
		{"into the reserve", 84 * mib, 100 * mib, 0, 0, true},
		{"buffers do not count", 84 * mib, 100 * mib, 4 * mib, 4 * mib, false},
		{"a small server keeps a quarter", 7 * mib, 8 * mib, 0, 0, true},
		{"a great one a twentieth", 700 * mib, 1000 * mib, 0, 250 * mib, false},
	} {
		r := judgeRoom(fmt.Sprintf("# Memory\r\nused_memory:%d\r\nmaxmemory:%d\r\nmem_not_counted_for_evict:%d\r\nmem_allocator:jemalloc\r\n", c.used, c.limit, c.apart))
		if r.Full() != c.full || r.Left != c.left || c.full && (!strings.Contains(r.Why, "maxmemory") || r.Next == "") {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

// TestRoomBeforeTheLimit: a server near its limit has no room for new tasks,
// while what is under way is written, and room again when the limit is raised.
func TestRoomBeforeTheLimit(t *testing.T) {
	t.Parallel()
	server := testserver.NewRedis(t, testserver.RedisOptions{Settings: map[string]string{"maxmemory": "64mb", "maxmemory-policy": "noeviction"}})
	db := openTest(t, Config{URL: server.URL()})
	defer closeDB(t, db)
	if r := db.Room(); r.Full() || r.Left <= 0 {
		t.Fatalf("at the start: %+v", r)
	}
	for i := 0; !db.Room().Full(); i++ { // slower than the store looks
		if _, err := server.Do(t.Context(), "SET", fmt.Sprintf("ballast-%d", i), strings.Repeat("x", 200_000)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	await := func(full bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for db.Room().Full() != full {
			select {
			case <-ctx.Done():
				t.Fatalf("full is %v after 10 s: %+v", !full, db.Room())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	await(true)
	if _, err := db.Commit(t.Context(), []persistence.Op{{}}); err != nil {
		t.Errorf("what is under way finds no room: %v", err)
	}
	if _, err := server.Do(t.Context(), "CONFIG", "SET", "maxmemory", "256mb"); err != nil {
		t.Fatal(err)
	}
	await(false)
}
