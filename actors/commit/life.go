package commit

// life is what decides when the committer writes and when it tries again. It
// knows no clock, no store and no operation, so that a test can visit all of
// its states. It keeps one rule: while something is pending, either a batch is
// with the worker or the timer runs. Nothing waits for somebody's next request.
type life struct {
	flying  bool // a batch is with the worker, or nobody knows yet what became of it
	armed   bool // the timer of the next try runs; there is never a second one
	down    bool // the last batch was not taken
	inDoubt bool // nobody knows yet whether the batch with the worker was kept
}

// input is what happens to a life.
type input int

const (
	arrived input = iota // operations that may wait
	hurried              // operations of which some may not wait
	taken                // the batch is durable
	refused              // the batch is not; what may wait of it is pending again
	parted               // it never will be as it is; its halves are pending, or its one operation was answered
	doubted              // nobody knows; the worker goes on asking
	due                  // the timer rang
)

// step is what the committer does next.
type step struct {
	flush bool // hand what is pending to the worker
	arm   bool // start the timer
}

// on takes an input; pending says whether anything waits after it.
func (l *life) on(in input, pending bool) step {
	switch in {
	case taken:
		l.flying, l.down, l.inDoubt = false, false, false
	case refused:
		l.flying, l.down, l.inDoubt = false, true, false
	case parted: // says nothing of the store
		l.flying, l.inDoubt = false, false
	case doubted:
		l.down, l.inDoubt = true, true
	case due:
		l.armed = false
	case arrived, hurried:
	}
	if !pending || l.flying {
		return step{}
	}
	// After a failure there is a pause, but who cannot wait wants to know now.
	if l.down && in != due && in != hurried && in != parted {
		s := step{arm: !l.armed}
		l.armed = true
		return s
	}
	l.flying = true
	return step{flush: true}
}
