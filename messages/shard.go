package messages

import "hash/fnv"

// Shards is the number of shards; it is kept in the store and never changes.
const Shards = 64

// Shard returns the shard of a pool or gateway id, in [0, Shards). FNV alone
// spreads short ids badly (it put half of the keys on one of five nodes), so
// its value goes through the finaliser of splitmix64.
func Shard(id string) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	x := h.Sum64()
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	return int(x % Shards)
}
