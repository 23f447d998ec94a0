package harness

import "github.com/dash-fleet/dash/soak/judge"

// eventLog keeps events in blocks that are never moved. A slice that grows by
// append copies itself, and while the collector marks, the copy of 60 MB of
// pointers stops the whole process for half a second: submits planned for that
// time were then counted as slow answers of Dash.
type eventLog struct {
	blocks [][]judge.Event
}

const eventBlock = 4096

func (l *eventLog) add(e judge.Event) {
	if n := len(l.blocks); n == 0 || len(l.blocks[n-1]) == eventBlock {
		l.blocks = append(l.blocks, make([]judge.Event, 0, eventBlock))
	}
	last := &l.blocks[len(l.blocks)-1]
	*last = append(*last, e)
}

func (l *eventLog) len() int {
	n := len(l.blocks)
	if n == 0 {
		return 0
	}
	return (n-1)*eventBlock + len(l.blocks[n-1])
}

func (l *eventLog) at(i int) *judge.Event { return &l.blocks[i/eventBlock][i%eventBlock] }

// from returns events from number i on, as many as lie in one piece, none at
// the end of the log. They stay as they are while the log grows.
func (l *eventLog) from(i int) []judge.Event {
	if i >= l.len() {
		return nil
	}
	b := l.blocks[i/eventBlock]
	return b[i%eventBlock : len(b) : len(b)]
}

// all copies the log into one slice.
func (l *eventLog) all() []judge.Event {
	list := make([]judge.Event, 0, l.len())
	for _, b := range l.blocks {
		list = append(list, b...)
	}
	return list
}
