package dispatch

// queue holds the tasks of one lane in order of seq. Nearly all arrive in that
// order and go into a plain list, where coming and going costs no comparison;
// the few that come back with an old seq go into a heap beside it.
type queue struct {
	list []*Item // in rising order of seq; nil: taken out
	head int     // first index of list in use; list[head] is never nil
	base int     // Item.at of list[0]
	live int     // items in list
	late heap[*Item]
}

func (q *queue) len() int { return q.live + len(q.late) }

// first returns the item with the smallest seq, nil when there is none.
func (q *queue) first() *Item {
	switch {
	case q.live == 0 && len(q.late) == 0:
		return nil
	case q.live == 0:
		return q.late[0]
	case len(q.late) == 0 || q.list[q.head].less(q.late[0]):
		return q.list[q.head]
	}
	return q.late[0]
}

func (q *queue) push(it *Item) {
	if q.live > 0 && it.Seq < q.list[len(q.list)-1].Seq {
		it.late = true
		q.late.push(it)
		return
	}
	it.late = false
	it.at = q.base + len(q.list)
	q.list = append(q.list, it)
	q.live++
}

func (q *queue) remove(it *Item) {
	if it.late {
		q.late.remove(it)
		it.late = false
		return
	}
	q.list[it.at-q.base] = nil
	q.live--
	if q.live == 0 {
		q.base += len(q.list)
		q.list, q.head = q.list[:0], 0
		if cap(q.list) > 1024 {
			q.list = nil
		}
		return
	}
	for q.list[q.head] == nil {
		q.head++
	}
	for q.list[len(q.list)-1] == nil {
		q.list = q.list[:len(q.list)-1]
	}
	if len(q.list) > 2*q.live+1024 {
		q.compact()
	}
}

// compact closes the holes; it is called when more than half are holes.
func (q *queue) compact() {
	list := make([]*Item, 0, q.live+q.live/2)
	for _, it := range q.list[q.head:] {
		if it != nil {
			it.at = q.base + len(list)
			list = append(list, it)
		}
	}
	q.list, q.head = list, 0
}
