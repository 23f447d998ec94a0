package server

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// replies remembers the answers to writes by Idempotency-Key, in the memory of
// this node, so that a client whose answer was lost gets the same one. Submits
// are not here: their key is durable with the task. The memory is bounded in
// bytes; when it is full, who holds the most of it loses his oldest answer, so
// that no tenant pushes out those of another.
type replies struct {
	limit int64
	life  time.Duration

	mu        sync.Mutex
	known     map[string]*reply
	tenants   map[string]*holding
	bytes     int64 // of all
	forgotten uint64
}

// holding is what one tenant has remembered, by age.
type holding struct {
	bytes int64
	order []*reply
}

const (
	// maxReply is the size of an answer up to which it is kept as it is. A longer
	// one shows a thing that can be read again.
	maxReply = 4 << 10
	// maxOddReply is that of an answer which shows nothing that can be read again.
	maxOddReply = 64 << 10
	// replySize is what an answer takes beside its texts.
	replySize = 512
)

type reply struct {
	tenant, name string // of the key
	hash         [sha256.Size]byte
	until        time.Time
	done         bool // false: the request is under way
	status       int
	header       http.Header
	body         []byte // nil: it is read again
	target       string // what was changed or made
	of           string // its tenant, where the path does not tell
}

func (e *reply) key() string { return e.tenant + "\n" + e.name }

func (e *reply) size() int64 {
	n := replySize + len(e.tenant) + len(e.name) + len(e.body) + len(e.target)
	for k, v := range e.header {
		n += len(k) + len(v[0])
	}
	return int64(n)
}

func newReplies(limit int64, life time.Duration) *replies {
	return &replies{limit: limit, life: life, known: map[string]*reply{}, tenants: map[string]*holding{}}
}

// begin claims a key. It returns the remembered answer if there is one, or
// says why the key cannot be used. A request that is under way is not forgotten.
func (r *replies) begin(tenant, name string, hash [sha256.Size]byte, now time.Time) (mine, before *reply, err error) {
	mine = &reply{tenant: tenant, name: name, hash: hash, until: now.Add(r.life)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(tenant, now)
	e, ok := r.known[mine.key()]
	switch {
	case !ok:
		r.known[mine.key()] = mine
		return mine, nil, nil
	case e.hash != hash:
		return nil, nil, keyReused()
	case !e.done:
		return nil, nil, &messages.Error{
			Code: codeInFlight, Message: "a request with this Idempotency-Key is under way", NextStep: next.RepeatLater, RetryAfter: time.Second,
		}
	}
	return nil, e, nil
}

func keyReused() error {
	return &messages.Error{
		Code: messages.CodeKeyReused, Message: "this Idempotency-Key was used for another request", NextStep: next.UseNewKey,
	}
}

// end keeps the answer, or with keep false lets the key be used again.
func (r *replies) end(e *reply, keep bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !keep {
		delete(r.known, e.key())
		return
	}
	h := r.tenants[e.tenant]
	if h == nil {
		h = &holding{}
		r.tenants[e.tenant] = h
	}
	e.done, h.order, h.bytes, r.bytes = true, append(h.order, e), h.bytes+e.size(), r.bytes+e.size()
	for r.bytes > r.limit {
		r.drop(r.largest())
		r.forgotten++
	}
}

// expire drops what was remembered for as long as was promised. r.mu is held.
func (r *replies) expire(tenant string, now time.Time) {
	for h := r.tenants[tenant]; h != nil && len(h.order) > 0 && now.After(h.order[0].until); {
		r.drop(tenant)
	}
}

// largest is the tenant that holds the most. r.mu is held.
func (r *replies) largest() (tenant string) {
	most := int64(-1)
	for name, h := range r.tenants {
		if h.bytes > most {
			tenant, most = name, h.bytes
		}
	}
	return tenant
}

// drop forgets the oldest answer of a tenant. r.mu is held.
func (r *replies) drop(tenant string) {
	h := r.tenants[tenant]
	e := h.order[0]
	h.order[0] = nil
	h.order, h.bytes, r.bytes = h.order[1:], h.bytes-e.size(), r.bytes-e.size()
	delete(r.known, e.key())
	if len(h.order) == 0 {
		delete(r.tenants, tenant)
	}
}

// state is how many bytes are remembered and how many answers were forgotten early.
func (r *replies) state() (bytes int64, forgotten uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes, r.forgotten
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
	mine, before, err := c.s.replies.begin(c.principal.Tenant, name, hash, time.Now())
	switch {
	case err != nil:
		return err
	case before != nil:
		return c.answerAgain(before)
	}
	return c.remember(mine, h)
}

// remember runs the handler and keeps its answer, unless it may be repeated:
// refusals that a later try can overcome, and panics.
func (c *call) remember(e *reply, h handler) (err error) {
	c.copy = new(bytes.Buffer)
	keep := false
	defer func() {
		if keep {
			e.status, e.target, e.of, e.header = c.status, cmpOr(c.param, c.made), c.of, http.Header{}
			for _, k := range []string{"Content-Type", "Location", "Etag"} {
				if v := c.w.Header()[k]; v != nil {
					e.header[k] = v
				}
			}
			if c.copy.Len() <= maxReply || c.again == nil {
				e.body = bytes.Clone(c.copy.Bytes())
			}
		}
		c.s.replies.end(e, keep)
	}()
	if err = h(c); err != nil {
		return err
	}
	keep = c.status < 300 && (c.again != nil || c.copy.Len() <= maxOddReply)
	return nil
}

// answerAgain repeats an answer. Of one that was too long to be kept it shows the
// same thing as it is now.
func (c *call) answerAgain(e *reply) error {
	for k, v := range e.header {
		c.w.Header()[k] = v
	}
	c.repeated()
	switch {
	case e.body != nil:
		c.bytes(e.status, e.header.Get("Content-Type"), e.body)
	case e.status == http.StatusNoContent:
		c.noContent(e.status)
	default:
		c.param, c.repeats = e.target, e.status
		if e.of != "" {
			c.query = url.Values{"tenant": {e.of}}
		}
		return c.again(c)
	}
	return nil
}

// repeated says that what was asked for was done before, by a request with the
// same Idempotency-Key: this one changes nothing.
func (c *call) repeated() {
	c.w.Header().Set("Idempotent-Replayed", "true")
	c.change.Keep()
}

// noContent answers without a body.
func (c *call) noContent(status int) {
	if c.status == 0 {
		c.status = status
		c.recordChange()
		c.w.WriteHeader(status)
	}
}

// onceID is an id that the caller's tenant and Idempotency-Key give, empty without
// a key: what is made under it is made once, whatever was forgotten and whichever
// node is asked.
func (c *call) onceID() string {
	name := c.r.Header.Get("Idempotency-Key")
	if name == "" {
		return ""
	}
	h := sha256.Sum256([]byte("dash.once\n" + c.op.id + "\n" + c.principal.Tenant + "\n" + name))
	id := uuid.UUID(h[:16])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // version 8: an id of the writer's own making
	return id.String()
}
