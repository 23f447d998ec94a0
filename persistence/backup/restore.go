package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

func laxJSON(b []byte, v any) error { return json.Unmarshal(b, v) }

// Verify decodes an archive to its end, and checks counts and checksum.
// Progress may be nil. Errors: *CorruptError, ErrEncrypted, ErrIdentity,
// ErrNotArchive, or that of the reader.
func Verify(ctx context.Context, r io.Reader, ids []age.Identity, progress func(rows int64)) (*Manifest, error) {
	a, err := open(r, ids)
	if err != nil {
		return nil, err
	}
	defer a.close()
	return a.rows(watched(ctx, progress, func(any) error { return nil }))
}

// watched ends a walk with ctx and reports its progress.
func watched(ctx context.Context, progress func(int64), each func(any) error) func(any) error {
	var n int64
	return func(row any) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n++; n%progressEvery == 0 && progress != nil {
			progress(n)
		}
		return each(row)
	}
}

// Restore fills the empty store to with an archive. It reads the archive
// twice: first it verifies it without touching the store. What it returns was
// counted in the store. Epochs of ownerships grow by one and owners are
// emptied, so that whoever held one before the backup stays fenced. trust
// refuses an archive by its manifest before the store is touched: a checksum
// says that it is whole, and not who made it. nil trusts everybody.
func Restore(ctx context.Context, to persistence.Restorer, archive io.ReadSeeker, ids []age.Identity, trust func(*Manifest) error, progress func(rows int64)) (*Manifest, error) {
	if _, err := archive.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	m, err := Verify(ctx, archive, ids, nil)
	if err != nil {
		return nil, err
	}
	if trust != nil {
		if err := trust(m); err != nil {
			return nil, err
		}
	}
	if _, err := archive.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read archive again: %w", err)
	}
	a, err := open(archive, ids)
	if err != nil {
		return nil, err
	}
	defer a.close()
	var second *Manifest
	got, err := to.Restore(ctx, m.Source.Mark, func(yield func(any, error) bool) {
		second = a.feed(ctx, progress, yield)
	})
	if err != nil {
		return nil, err
	}
	if second == nil || second.SHA256 != m.SHA256 {
		return nil, corrupt(nil, "it changed while it was restored; empty the store and start again")
	}
	if d := differences(m.Counts, got); d != "" {
		return nil, fmt.Errorf("the store does not hold what the archive has: %s; empty the store and start again", d)
	}
	return m, nil
}

// errStopped: the store wants no more rows.
var errStopped = errors.New("the store ended the restore")

// feed gives the rows to a Restorer and, as the last item, the error that a
// damaged archive ends with, so that the store keeps nothing of it.
func (a *reader) feed(ctx context.Context, progress func(int64), yield func(any, error) bool) *Manifest {
	m, err := a.rows(watched(ctx, progress, func(row any) error {
		if o, ok := row.(*messages.Ownership); ok {
			o.Owner = ""
			o.Epoch++
		}
		if !yield(row, nil) {
			return errStopped
		}
		return nil
	}))
	if err != nil && !errors.Is(err, errStopped) {
		yield(nil, err)
	}
	return m
}
