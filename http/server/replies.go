package server

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// replies remembers the answers to writes by Idempotency-Key, in the memory of
// this node, so that a client whose answer was lost gets the same one. Submits
// are not here: their key is durable with the task. When full, the oldest
// answer is forgotten.
type replies struct {
	limit int
	life  time.Duration

	mu    sync.Mutex
	known map[string]*reply
	order []string // by age; each key once
}

// maxReply is the size of an answer up to which it is remembered.
const maxReply = 64 << 10

type reply struct {
	hash   [sha256.Size]byte
	until  time.Time
	done   bool // false: the request is under way
	status int
	header http.Header
	body   []byte
}

func newReplies(limit int, life time.Duration) *replies {
	return &replies{limit: limit, life: life, known: map[string]*reply{}}
}

// begin claims a key. It returns the remembered answer if there is one, or
// says why the key cannot be used.
func (r *replies) begin(key string, hash [sha256.Size]byte, now time.Time) (*reply, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.known[key]
	if ok && e.done && now.After(e.until) {
		ok = false
	}
	switch {
	case !ok:
		r.put(key, &reply{hash: hash, until: now.Add(r.life)})
		return nil, nil
	case e.hash != hash:
		return nil, &messages.Error{
			Code: messages.CodeKeyReused, Message: "this Idempotency-Key was used for another request", NextStep: next.UseNewKey,
		}
	case !e.done:
		return nil, &messages.Error{
			Code: codeInFlight, Message: "a request with this Idempotency-Key is under way", NextStep: next.RepeatLater, RetryAfter: time.Second,
		}
	}
	return e, nil
}

// put stores an entry, over an expired one in its place. r.mu is held.
func (r *replies) put(key string, e *reply) {
	if _, ok := r.known[key]; !ok {
		if len(r.order) >= r.limit {
			delete(r.known, r.order[0])
			r.order = r.order[1:]
		}
		r.order = append(r.order, key)
	}
	r.known[key] = e
}

// end keeps the answer, or with keep false lets the key be used again.
func (r *replies) end(key string, keep bool, status int, header http.Header, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.known[key]
	if !ok {
		return
	}
	if !keep {
		// Its place in order stays; an entry that is over counts as absent.
		*e = reply{done: true}
		return
	}
	e.done, e.status, e.header, e.body = true, status, header, body
}

// once runs a write at most once per Idempotency-Key.
func (c *call) once(h handler) error {
	name := c.r.Header.Get("Idempotency-Key")
	if name == "" {
		return h(c)
	}
	raw, err := []byte(nil), error(nil)
	if c.op.body != nil {
		if raw, err = c.read(); err != nil {
			return err
		}
	}
	canonical := ""
	if len(raw) > 0 {
		tree, err := parse(raw)
		if err != nil {
			return err
		}
		if canonical, err = canonicalJSON(tree); err != nil {
			return err
		}
	}
	hash := sha256.Sum256([]byte(c.op.id + "\n" + c.param + "\n" + c.query.Encode() + "\n" + c.r.Header.Get("If-Match") + "\n" + canonical))
	key := c.principal.Tenant + "\n" + name
	before, err := c.s.replies.begin(key, hash, time.Now())
	if err != nil {
		return err
	}
	if before != nil {
		for k, v := range before.header {
			c.w.Header()[k] = v
		}
		c.w.Header().Set("Idempotent-Replayed", "true")
		c.answerAgain(before)
		return nil
	}
	return c.remember(key, h)
}

// remember runs the handler and keeps its answer, unless it may be repeated:
// refusals that a later try can overcome, and panics.
func (c *call) remember(key string, h handler) (err error) {
	c.copy = new(bytes.Buffer)
	keep := false
	defer func() {
		var header http.Header
		if keep {
			header = http.Header{}
			for _, k := range []string{"Content-Type", "Location", "ETag"} {
				if v := c.w.Header()[http.CanonicalHeaderKey(k)]; v != nil {
					header[http.CanonicalHeaderKey(k)] = v
				}
			}
		}
		c.s.replies.end(key, keep, c.status, header, c.copy.Bytes())
	}()
	if err = h(c); err != nil {
		return err
	}
	keep = c.status < 300 && c.copy.Len() <= maxReply
	return nil
}

func (c *call) answerAgain(e *reply) {
	if len(e.body) == 0 {
		c.noContent(e.status)
		return
	}
	c.bytes(e.status, e.header.Get("Content-Type"), e.body)
}

// noContent answers without a body.
func (c *call) noContent(status int) {
	if c.status == 0 {
		c.status = status
		c.recordChange()
		c.w.WriteHeader(status)
	}
}
