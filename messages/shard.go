package messages

import "hash/fnv"

// Shard returns the shard of a pool or gateway id, in [0, shards). FNV alone
// spreads short ids badly (it put half of the keys on one of five nodes), so
// its value goes through the finaliser of splitmix64.
func Shard(id string, shards int) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	x := h.Sum64()
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	return int(x % uint64(shards))
}
