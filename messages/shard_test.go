package messages

import (
	"strconv"
	"testing"
)

// A pool's shard is in stores that exist: it never changes.
func TestShardStays(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]int{"default": 14, "a": 56, "gpu": 52, "team-ä": 56} {
		if got := Shard(id); got != want {
			t.Errorf("%q: shard %d, want %d", id, got, want)
		}
	}
}

// Short ids, as people give them, are spread over all shards.
func TestShardsAreEven(t *testing.T) {
	t.Parallel()
	const each = 100
	var n [Shards]int
	for i := range Shards * each {
		n[Shard("p"+strconv.Itoa(i))]++
	}
	for shard, n := range n {
		if n < each/2 || n > each*3/2 {
			t.Errorf("shard %d has %d of %d ids, about %d are its share", shard, n, Shards*each, each)
		}
	}
}
