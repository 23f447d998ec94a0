package postgres

import "testing"

// TestOfferKeepsTheReasonToRead: a newer number replaces an older one, but not
// the note that something may have been missed.
func TestOfferKeepsTheReasonToRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ sent, want []int64 }{
		{[]int64{7, 8}, []int64{8}}, {[]int64{-1, 7}, []int64{-1}}, {[]int64{-1, 7, 8}, []int64{-1}}, {[]int64{7, -1}, []int64{-1}},
	} {
		out := make(chan int64, 1)
		for _, v := range c.sent {
			offer(out, v)
		}
		if got := <-out; got != c.want[0] {
			t.Errorf("%v arrives as %d, want %d", c.sent, got, c.want[0])
		}
	}
}
