package persistence

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// AuditEntry is one change: who did what to which thing.
type AuditEntry struct {
	Seq       int64     // 1, 2, 3 … without holes; given by Append
	Time      time.Time // microseconds
	Tenant    string    // of the actor; empty: all tenants
	Actor     string    // "key:<id>", "user:<id>", "system"
	Action    string    // the operation's id in the API document
	Target    string    // id of what was changed, may be empty
	RequestID string
	Detail    string    // JSON object without secrets, or empty
	Hash      AuditHash // given by Append
}

// AuditHash ties a row of the audit log to all rows before it.
type AuditHash [sha256.Size]byte

func (h AuditHash) String() string { return hex.EncodeToString(h[:]) }

// AuditHead is the newest row of the log; Seq is 0 while there is none.
// Whoever keeps one outside of the database can tell later whether the log up
// to it is still the same.
type AuditHead struct {
	Seq  int64
	Hash AuditHash
}

// AuditFilter selects rows; zero fields select everything.
type AuditFilter struct {
	Tenant, Actor, Action, Target string
	Since, Until                  time.Time // from Since on, before Until
	Before                        int64     // only rows with a smaller Seq
	Limit                         int       // 0 or more than MaxAuditPage: MaxAuditPage
}

// auditedKey finds an audited change in a context.
type auditedKey struct{}

// audited is a row that goes into the transaction of the change it tells of.
type audited struct {
	entry AuditEntry
	done  func()
}

// WithAudit makes the next change of a repository that gets the context append
// the row in its own transaction: both are kept or neither. done is called when
// they are. A call that changes nothing appends nothing.
func WithAudit(ctx context.Context, e AuditEntry, done func()) context.Context {
	return context.WithValue(ctx, auditedKey{}, &audited{entry: e, done: done})
}

// WithoutAudit is for a read that follows a change with the same context.
func WithoutAudit(ctx context.Context) context.Context {
	return context.WithValue(ctx, auditedKey{}, (*audited)(nil))
}

// AuditOf returns the row that a change with this context is to append, and
// what to call when it is durable.
func AuditOf(ctx context.Context) (e AuditEntry, done func(), is bool) {
	a, _ := ctx.Value(auditedKey{}).(*audited)
	if a == nil {
		return AuditEntry{}, nil, false
	}
	return a.entry, a.done, true
}

// Audit is the log of changes. Rows are never changed or removed: triggers of
// the engine refuse it, and the chain of hashes shows it where somebody took
// the triggers off.
type Audit interface {
	// Append adds a row and returns it with its Seq and Hash. An error means
	// that it may have been added.
	Append(ctx context.Context, e AuditEntry) (AuditEntry, error)
	// List returns rows, newest first.
	List(ctx context.Context, f AuditFilter) ([]AuditEntry, error)
	// Verify walks the whole chain. A *AuditBroken names the first row that
	// does not fit.
	Verify(ctx context.Context) (AuditHead, error)
}

// MaxAuditPage bounds a page of the audit log. It is more than a page of the
// API, which reads one row further.
const MaxAuditPage = 2000

// Page is the number of rows that f asks for.
func (f AuditFilter) Page() int {
	if f.Limit <= 0 || f.Limit > MaxAuditPage {
		return MaxAuditPage
	}
	return f.Limit
}

// AuditBroken says where the audit log was tampered with.
type AuditBroken struct {
	Seq int64 // the first row that is missing or does not fit
	Why string
}

func (e *AuditBroken) Error() string {
	return fmt.Sprintf("the audit log is broken at row %d: %s", e.Seq, e.Why)
}

// Content is what the hash of the row covers beside its number and the row
// before: each field with its length, so that no two entries share one.
func (e *AuditEntry) Content() []byte {
	b := []byte("dash.audit.v1")
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixMicro()))
	for _, s := range []string{e.Tenant, e.Actor, e.Action, e.Target, e.RequestID, e.Detail} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// Next is the hash of row seq with this content after the row with hash h.
// Engines that compute it in SQL write sha256(hash || int8send(seq) || content).
func (h AuditHash) Next(seq int64, content []byte) AuditHash {
	b := make([]byte, 0, len(h)+8+len(content))
	b = append(b, h[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(seq))
	return sha256.Sum256(append(b, content...))
}

// Follows checks that e comes right after the head, and moves the head to it.
func (h *AuditHead) Follows(e *AuditEntry) error {
	want := h.Seq + 1
	switch {
	case e.Seq != want:
		return &AuditBroken{Seq: want, Why: fmt.Sprintf("the row is missing, row %d follows", e.Seq)}
	case e.Hash != h.Hash.Next(want, e.Content()):
		return &AuditBroken{Seq: want, Why: "the row or the one before was changed"}
	}
	h.Seq, h.Hash = e.Seq, e.Hash
	return nil
}

// VerifyAudit walks the log up to head, which was read before. page returns
// the rows after seq, oldest first, none at the end.
func VerifyAudit(ctx context.Context, head AuditHead, page func(ctx context.Context, seq int64) ([]AuditEntry, error)) (AuditHead, error) {
	var at AuditHead
	for at.Seq < head.Seq {
		rows, err := page(ctx, at.Seq)
		if err != nil {
			return at, err
		}
		if len(rows) == 0 {
			return at, &AuditBroken{Seq: at.Seq + 1, Why: fmt.Sprintf("the row is missing, and so are all up to %d", head.Seq)}
		}
		for i := range rows {
			if at.Seq == head.Seq {
				break
			}
			if err := at.Follows(&rows[i]); err != nil {
				return at, err
			}
		}
	}
	if at.Hash != head.Hash {
		return at, &AuditBroken{Seq: at.Seq, Why: "the log's end is not the one that was recorded"}
	}
	return at, nil
}
