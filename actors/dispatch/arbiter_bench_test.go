package dispatch

import (
	"fmt"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// BenchmarkArbiter keeps 100,000 tasks queued while tasks are queued, assigned
// and ended: one operation is one task's way through the arbiter.
func BenchmarkArbiter(b *testing.B) {
	for _, gateways := range []int{1, 10, 50, 200} {
		b.Run(fmt.Sprintf("gateways=%d", gateways), func(b *testing.B) {
			a := NewArbiter()
			const queued = 100_000
			items := make([]*Item, queued+8*gateways)
			var seq int64
			enqueue := func(it *Item) {
				seq++
				it.Seq, it.Since = seq, seq
				a.Set(it, Waiting, "")
			}
			for i := range items {
				items[i] = &Item{ID: fmt.Sprint(i), Class: messages.Classes[i%4], Need: Need{Tenant: "t", Region: []string{"", "", "", "eu"}[i/4%4]}}
				enqueue(items[i])
			}
			for i := range gateways {
				a.Offer(Offer{ID: fmt.Sprintf("gw-%03d", i), Tenant: "t", Region: []string{"eu", "us"}[i%2], Window: 8})
			}
			var flying []*Item
			now := time.Now()
			for {
				it, _ := a.Next(now)
				if it == nil {
					break
				}
				flying = append(flying, it)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				k := i * 7919 % len(flying)
				done := flying[k]
				a.Set(done, Gone, "")
				enqueue(done)
				it, _ := a.Next(now)
				flying[k] = it
			}
		})
	}
}
