package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/messages"
)

// Bounds of what is kept in memory of what gateways send, in bytes. Beside them a
// connection has one frame at a time.
const (
	// maxReplies are the replies of one gateway that wait to be stored. One is
	// always taken, whatever its size.
	maxReplies = 12 << 20
	// maxAllReplies are those of all gateways of a node, beside the first of each.
	maxAllReplies = 64 << 20
	// maxTexts are the running texts of one gateway.
	maxTexts = 8 << 20
	// maxReads are the transcripts of one gateway that are read at a time.
	maxReads = 4
	// holdTime is how long a connection waits for room. Then it is cut: its runs
	// are looked for on the next one.
	holdTime = 10 * time.Second
)

// Memory is the room for replies that all gateways of a node share.
type Memory struct {
	mu    sync.Mutex
	kept  int
	freed chan struct{} // closed when there is more room
	gauge prometheus.Gauge
}

// NewMemory registers its metric with r; a nil r registers nowhere.
func NewMemory(r prometheus.Registerer) *Memory {
	m := &Memory{freed: make(chan struct{}), gauge: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "dash_gateway_kept_bytes", Help: "Bytes of long replies of gateways that are kept in memory until they are stored.",
	})}
	if r != nil {
		r.MustRegister(m.gauge)
	}
	return m
}

// room is the part of one gateway. It is used by readers, by questions of
// sessions and by the gateway actor.
type room struct {
	all  *Memory
	kept map[messages.ClaimRef]int // of each claim that is open here
	sum  int
}

var errNoRoom = errors.New("replies that are not stored yet take all of its room")

func newRoom(all *Memory) *room {
	if all == nil {
		all = NewMemory(nil)
	}
	return &room{all: all, kept: map[messages.ClaimRef]int{}}
}

// open begins to count for a claim.
func (r *room) open(ref messages.ClaimRef) {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	if _, ok := r.kept[ref]; !ok {
		r.kept[ref] = 0
	}
}

// hold waits until there is room for n bytes of a claim in all. Nobody counts for
// a claim that is not open: what comes for it is dropped.
func (r *room) hold(ctx context.Context, ref messages.ClaimRef, n int) error {
	for {
		freed, ok := r.try(ref, n)
		if ok {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return errNoRoom
		}
	}
}

func (r *room) try(ref messages.ClaimRef, n int) (freed <-chan struct{}, ok bool) {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	have, open := r.kept[ref]
	more, others := n-have, r.sum-have
	if !open || more <= 0 {
		return nil, true
	}
	if others > 0 && (others+n > maxReplies || r.all.kept+more > maxAllReplies) {
		return r.all.freed, false
	}
	r.kept[ref] = n
	r.change(more)
	return nil, true
}

// free forgets what a claim kept; it stays open.
func (r *room) free(ref messages.ClaimRef) {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	if n := r.kept[ref]; n > 0 {
		r.kept[ref] = 0
		r.change(-n)
	}
}

// close forgets a claim.
func (r *room) close(ref messages.ClaimRef) {
	r.free(ref)
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	delete(r.kept, ref)
}

// clear forgets all claims.
func (r *room) clear() {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	clear(r.kept)
	r.change(-r.sum)
}

func (r *room) change(n int) {
	r.sum += n
	r.all.kept += n
	r.all.gauge.Set(float64(r.all.kept))
	if n < 0 {
		close(r.all.freed)
		r.all.freed = make(chan struct{})
	}
}

// holder is asked by the reader of a connection before it hands a long reply on.
func (g *gateway) holder() func(runID string, n int) error {
	routes, room, base := g.routes, g.room, g.ctx
	return func(runID string, n int) error {
		to, ok := routes.find(runID)
		if !ok {
			return nil
		}
		ctx, cancel := context.WithTimeout(base, holdTime)
		defer cancel()
		return room.hold(ctx, to.ref, n)
	}
}

// texts are the sizes of the running texts of one gateway.
type texts struct {
	of   map[messages.ClaimRef]*running
	sum  int
	next uint64
}

type running struct {
	text string
	size int
	at   uint64 // when it came last
}

// keptOfText is what is left of a running text that is cut for want of room.
const keptOfText = 4 << 10

const textCut = "\n[The rest of the running text was left out, because this gateway sends more than is kept of it at once. The result will have it.]"

// take notes a claim's text and returns those that have to be cut: the ones that
// came the longest ago, until all fit.
func (t *texts) take(ref messages.ClaimRef, text string) (cut map[messages.ClaimRef]string) {
	if t.of == nil {
		t.of = map[messages.ClaimRef]*running{}
	}
	t.drop(ref)
	t.next++
	t.of[ref] = &running{text: text, size: len(text), at: t.next}
	t.sum += len(text)
	for t.sum > maxTexts {
		oldest := t.oldest(ref)
		if oldest == nil {
			break
		}
		if cut == nil {
			cut = map[messages.ClaimRef]string{}
		}
		one := t.of[*oldest]
		short := prefix(one.text, keptOfText) + textCut
		t.sum += len(short) - one.size
		one.text, one.size = short, len(short)
		cut[*oldest] = short
	}
	return cut
}

// oldest is the longest unheard text that can be cut, but for that of one claim.
func (t *texts) oldest(but messages.ClaimRef) *messages.ClaimRef {
	var found *messages.ClaimRef
	for ref, one := range t.of {
		if ref != but && one.size > keptOfText+len(textCut) && (found == nil || one.at < t.of[*found].at) {
			found = &ref
		}
	}
	return found
}

func (t *texts) drop(ref messages.ClaimRef) {
	if old := t.of[ref]; old != nil {
		t.sum -= old.size
		delete(t.of, ref)
	}
}

// prefix is the beginning of a text, without a part of a character.
func prefix(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
