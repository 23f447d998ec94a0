package session

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// FuzzInputs: TestAnyInputs with inputs that coverage leads to.
func FuzzInputs(f *testing.F) {
	for _, s := range []string{"", "0", "abcdefghijklmnopqrstuvwxyz"} {
		f.Add([]byte(s))
	}
	f.Fuzz(rapid.MakeFuzz(anyInputs))
}

// FuzzOrder walks through the world of the exhaustive search, with bounds far
// beyond what can be visited whole: each byte picks one of the steps that owners,
// gateways, stores, connections and timers may take next. The world knows one take-over.
func FuzzOrder(f *testing.F) {
	for _, s := range []string{"", "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09", "crash, lose, take over, cancel, come back and finish"} {
		f.Add([]byte(s), uint8(len(s)))
	}
	f.Fuzz(func(t *testing.T, steps []byte, kind uint8) {
		b := bounds{claims: 3, gateways: 2, hold: kind&1 != 0, throwAway: kind&2 != 0, claimBoot: kind&4 != 0, merges: kind&8 != 0,
			budget: budget{crashes: 2, dropInput: 1, losses: 2, takeovers: 1, cancels: 1, errors: 2, refusals: 1, aways: 1, deadlines: 1,
				notSent: 1, storeErrors: 2, forget: 1, stops: 1}}
		w := newWorld(&b)
		var path []string
		for _, pick := range steps[:min(len(steps), 200)] {
			var labels []string
			var worlds []*world
			w.next(func(label string, _ fairness, c *world, bad string) {
				if bad != "" {
					t.Fatalf("%s\nafter %q, %s", bad, path, label)
				}
				labels, worlds = append(labels, label), append(worlds, c)
			})
			if len(worlds) == 0 {
				return
			}
			// The order of steps must not depend on that of a map.
			order := make([]int, len(labels))
			for i := range order {
				order[i] = i
			}
			slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(labels[a], labels[b]) })
			i := order[int(pick)%len(order)]
			w, path = worlds[i], append(path, labels[i])
		}
	})
}
