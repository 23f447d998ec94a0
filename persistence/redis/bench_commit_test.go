package redis

import (
	"fmt"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// BenchmarkCommit has one caller that commits full batches, a quarter of each
// kind of step: what a step costs apart from the gathering of batches. A task is
// four steps.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{16, 64, 256} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) { benchCommit(b, n) })
	}
}

func benchCommit(b *testing.B, size int) {
	server := testserver.Redis(b)
	db := openTest(b, Config{URL: server.Database(b), History: newMemory()})
	fences := benchFences(b, db)
	var waiting [3][]messages.Task // queued, claimed, running
	b.ResetTimer()
	own, redis := ownCPU(b), redisCPU(b, server)
	for done := 0; done < b.N; done += size / 4 {
		ops := make([]persistence.Op, 0, size)
		var moved [3][]messages.Task
		for range size / 4 {
			t, op := benchInsert(fences)
			ops, moved[0] = append(ops, op), append(moved[0], t)
		}
		for i, to := range []messages.TaskState{messages.Claimed, messages.Running, messages.Succeeded} {
			for _, t := range waiting[i] {
				ops = append(ops, benchStep(fences, &t, to))
				if i < 2 {
					moved[i+1] = append(moved[i+1], t)
				}
			}
		}
		waiting = moved
		out, err := db.Commit(b.Context(), ops)
		if err != nil {
			b.Fatal(err)
		}
		for i := range out {
			if out[i].Status != persistence.OK {
				b.Fatalf("op %d: %v", i, out[i].Status)
			}
		}
	}
	b.StopTimer()
	benchReport(b, server, own, redis)
	closeDB(b, db)
}
