package dispatch

// ranked is an element of an indexed heap: it knows its place, so that it can
// be taken out of the middle.
type ranked[T any] interface {
	less(T) bool
	place() *int // index in its heap, -1 outside
}

// heap is a binary heap of elements that know their place. Pushing in rising
// order costs no swaps, which is the usual case of a queue in order of seq.
type heap[T ranked[T]] []T

func (h heap[T]) top() (T, bool) {
	if len(h) == 0 {
		var zero T
		return zero, false
	}
	return h[0], true
}

func (h *heap[T]) push(x T) {
	*x.place() = len(*h)
	*h = append(*h, x)
	h.up(len(*h) - 1)
}

func (h *heap[T]) remove(x T) {
	i, last := *x.place(), len(*h)-1
	old := *h
	old.swap(i, last)
	var zero T
	old[last] = zero
	*h = old[:last]
	*x.place() = -1
	if i < last {
		h.fix(old[i])
	}
	if cap(*h) > 1024 && len(*h) < cap(*h)/4 {
		*h = append(make(heap[T], 0, len(*h)*2), *h...)
	}
}

// fix restores the order after x changed its rank.
func (h heap[T]) fix(x T) {
	if i := *x.place(); !h.down(i) {
		h.up(i)
	}
}

func (h heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h[i].less(h[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h heap[T]) down(i int) bool {
	start := i
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if r := child + 1; r < len(h) && h[r].less(h[child]) {
			child = r
		}
		if !h[child].less(h[i]) {
			break
		}
		h.swap(i, child)
		i = child
	}
	return i > start
}

func (h heap[T]) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	*h[i].place(), *h[j].place() = i, j
}
