package redishelp

import "testing"

// TestTellingNeverWaits: the committer is not held up by a fan-out that does nothing.
func TestTellingNeverWaits(t *testing.T) {
	t.Parallel()
	f := &fanout{poke: make(chan struct{}, 1)}
	for seq := range int64(10_000) {
		f.written(seq)
	}
	if f.newest.Load() != 9_999 || len(f.poke) != 1 {
		t.Errorf("newest %d, %d pokes", f.newest.Load(), len(f.poke))
	}
}
