package persistence

// Room is what a store has left for new tasks. The last part of a disk or of a
// memory is kept for the tasks that are under way: a claim, an end or a cancel
// that finds no room waits for an operator.
type Room struct {
	// Left is how many bytes may come until new tasks are refused, 0 while they
	// are; negative: the store cannot tell.
	Left int64
	// Why new tasks are refused, and what an operator does about it; empty: they
	// are taken.
	Why, Next string
}

// Full says whether new tasks are refused.
func (r Room) Full() bool { return r.Why != "" }
