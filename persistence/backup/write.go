package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// Options of a backup. The zero value makes an archive in the clear.
type Options struct {
	// By is the version of dash, for the archive's header.
	By string
	// Recipients are who can read the archive; empty: everybody who has the file.
	Recipients []age.Recipient
	// Sign vouches for the sum of the archive; nil, or an empty key: nobody does.
	Sign func(sum []byte) Signature
	// Progress is called now and then with the rows written so far; may be nil.
	Progress func(rows int64)
}

// progressEvery is how many rows pass between two calls of Progress.
const progressEvery = 4096

// Write writes a snapshot as an archive. ctx ends it between two rows.
func Write(ctx context.Context, w io.Writer, s persistence.Snapshot, o Options) (m *Manifest, err error) {
	var closers []io.Closer
	defer func() {
		for i := len(closers) - 1; i >= 0; i-- {
			err = errors.Join(err, closers[i].Close())
		}
		if err != nil {
			m = nil
		}
	}()
	if len(o.Recipients) > 0 {
		enc, err := age.Encrypt(w, o.Recipients...)
		if err != nil {
			return nil, fmt.Errorf("encrypt: %w", err)
		}
		closers = append(closers, enc)
		w = enc
	}
	// One goroutine less and memory that does not grow with the cores: the
	// store is the bottleneck.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	closers = append(closers, z)
	buffered := bufio.NewWriterSize(z, 64<<10)
	sum := sha256.New()
	a := &archive{w: io.MultiWriter(buffered, sum), sum: sum, counts: map[persistence.Section]int64{}, o: o}
	if m, err = a.write(ctx, s); err != nil {
		return nil, err
	}
	return m, buffered.Flush()
}

// archive is an archive being written.
type archive struct {
	w       io.Writer
	sum     hash.Hash
	o       Options
	head    []byte
	section persistence.Section
	counts  map[persistence.Section]int64
	rows    int64
}

func (a *archive) write(ctx context.Context, s persistence.Snapshot) (*Manifest, error) {
	src := s.Source()
	m := &Manifest{Source: src, Shards: messages.Shards, Made: time.Now().UTC(), By: a.o.By, Counts: a.counts}
	if _, err := io.WriteString(a.w, magic); err != nil {
		return nil, err
	}
	err := a.json(kindHeader, header{
		Format: formatVersion, Engine: src.Engine, Schema: src.Schema, Shards: m.Shards,
		Seq: src.Mark.Seq, Time: src.Mark.Time.UTC(), Made: m.Made, By: m.By,
	})
	if err != nil {
		return nil, err
	}
	err = s.Rows(ctx, func(row any) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return a.row(row)
	})
	if err != nil {
		return nil, err
	}
	if err := a.json(kindCounts, a.counts); err != nil {
		return nil, err
	}
	sum := a.sum.Sum(nil)
	m.SHA256 = hex.EncodeToString(sum)
	if a.o.Progress != nil {
		a.o.Progress(a.rows)
	}
	if err := a.record(kindSum, sum); err != nil || a.o.Sign == nil {
		return m, err
	}
	if m.Signed = a.o.Sign(sum); m.Signed.Key == "" {
		return m, nil
	}
	return m, a.json(kindSigned, m.Signed)
}

func (a *archive) row(row any) error {
	c, err := codecFor(row)
	if err != nil {
		return err
	}
	if c.section != a.section {
		if _, again := a.counts[c.section]; again {
			return fmt.Errorf("the engine gave rows of section %s in two places", c.section)
		}
		a.section = c.section
		if err := a.record(kindSection, []byte(c.section)); err != nil {
			return err
		}
	}
	enc, err := c.encode(row)
	if err != nil {
		return fmt.Errorf("encode a row of %s: %w", c.section, err)
	}
	if len(enc) > maxRecord {
		return fmt.Errorf("a row of %s has %d bytes; an archive takes %d", c.section, len(enc), maxRecord)
	}
	a.counts[c.section]++
	if a.rows++; a.rows%progressEvery == 0 && a.o.Progress != nil {
		a.o.Progress(a.rows)
	}
	return a.record(kindRow, enc)
}

func (a *archive) json(kind byte, v any) error {
	enc, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return a.record(kind, enc)
}

func (a *archive) record(kind byte, payload []byte) error {
	a.head = appendRecord(a.head[:0], kind, len(payload))
	if _, err := a.w.Write(a.head); err != nil {
		return err
	}
	_, err := a.w.Write(payload)
	return err
}
