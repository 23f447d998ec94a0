package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// maxWindow bounds the memory that an archive can make its reader use.
const maxWindow = 64 << 20

// Errors that a caller may put into other words.
var (
	// ErrEncrypted: the archive is encrypted and no identity was given.
	ErrEncrypted = errors.New("the archive is encrypted and no identity was given")
	// ErrIdentity: none of the identities can open the archive.
	ErrIdentity = errors.New("none of the given identities can open the archive")
	// ErrNotArchive: the file is something else.
	ErrNotArchive = errors.New("this is not an archive of dash")
)

const ageIntro = "age-encryption.org/v1"

// zstdIntro begins every zstd frame.
var zstdIntro = []byte{0x28, 0xb5, 0x2f, 0xfd}

// Encrypted reports whether an archive that begins with intro is encrypted.
func encrypted(intro []byte) bool { return bytes.HasPrefix(intro, []byte(ageIntro)) }

// reader walks an archive.
type reader struct {
	z       *zstd.Decoder
	buf     *bufio.Reader
	sum     hash.Hash
	header  header
	section *codec
	seen    map[persistence.Section]int64
	payload []byte
}

// open decrypts and decompresses r and reads its header. The caller closes it.
func open(r io.Reader, ids []age.Identity) (*reader, error) {
	outer := bufio.NewReaderSize(r, 64<<10)
	intro, err := outer.Peek(len(ageIntro))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	if encrypted(intro) {
		if len(ids) == 0 {
			return nil, ErrEncrypted
		}
		plain, err := age.Decrypt(outer, ids...)
		if err != nil {
			return nil, decryptError(err)
		}
		outer = bufio.NewReaderSize(plain, 64<<10)
		if intro, err = outer.Peek(len(zstdIntro)); err != nil && !errors.Is(err, io.EOF) {
			return nil, corrupt(err, "it cannot be decrypted")
		}
	}
	if !bytes.HasPrefix(intro, zstdIntro) {
		return nil, ErrNotArchive
	}
	z, err := zstd.NewReader(outer, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, corrupt(err, "it cannot be decompressed")
	}
	a := &reader{z: z, buf: bufio.NewReaderSize(z, 64<<10), sum: sha256.New(), seen: map[persistence.Section]int64{}}
	if err := a.readHeader(); err != nil {
		z.Close()
		return nil, err
	}
	return a, nil
}

func decryptError(err error) error {
	var no *age.NoIdentityMatchError
	if errors.As(err, &no) {
		return ErrIdentity
	}
	return corrupt(err, "it cannot be decrypted")
}

func (a *reader) close() { a.z.Close() }

func (a *reader) readHeader() error {
	intro := make([]byte, len(magic))
	if _, err := io.ReadFull(a.buf, intro); err != nil {
		return corrupt(err, "it has no beginning")
	}
	if string(intro) != magic {
		return ErrNotArchive
	}
	a.sum.Write(intro)
	kind, payload, err := a.record()
	if err != nil {
		return err
	}
	if kind != kindHeader {
		return corrupt(nil, "it has no header")
	}
	// A newer header may have more fields: its format number is what counts.
	if err := laxJSON(payload, &a.header); err != nil {
		return corrupt(err, "its header cannot be read")
	}
	if a.header.Format > formatVersion || a.header.Format < 1 {
		return fmt.Errorf("the archive has format %d and this dash reads 1 to %d: restore it with dash %s or newer", a.header.Format, formatVersion, a.header.By)
	}
	if a.header.Shards != messages.Shards {
		return fmt.Errorf("the archive is of a store with %d shards and this dash has %d: restore it with dash %s", a.header.Shards, messages.Shards, a.header.By)
	}
	return nil
}

// manifest is what the header says.
func (a *reader) manifest() *Manifest {
	h := a.header
	return &Manifest{
		Source: persistence.Source{Engine: h.Engine, Schema: h.Schema, Mark: persistence.Mark{Seq: h.Seq, Time: h.Time}},
		Shards: h.Shards, Made: h.Made, By: h.By, Counts: a.seen,
	}
}

// record reads one record into a buffer that the next call uses again. The
// checksum takes in every record but the one that holds it.
func (a *reader) record() (kind byte, payload []byte, err error) {
	if kind, err = a.buf.ReadByte(); err != nil {
		return 0, nil, corrupt(err, "a record is missing")
	}
	size, err := binary.ReadUvarint(a.buf)
	if err != nil {
		return 0, nil, corrupt(err, "a record has no length")
	}
	if size > maxRecord {
		return 0, nil, corrupt(nil, "a record claims %d bytes", size)
	}
	if uint64(cap(a.payload)) < size {
		a.payload = make([]byte, size)
	}
	payload = a.payload[:size]
	if _, err := io.ReadFull(a.buf, payload); err != nil {
		return 0, nil, corrupt(err, "a record is cut")
	}
	if kind != kindSum {
		a.sum.Write(appendRecord(nil, kind, len(payload)))
		a.sum.Write(payload)
	}
	return kind, payload, nil
}

// rows calls each for every row. It returns nil only when the archive was read
// to its end, and counts and checksum are right.
func (a *reader) rows(each func(row any) error) (*Manifest, error) {
	for {
		kind, payload, err := a.record()
		if err != nil {
			return nil, err
		}
		switch kind {
		case kindSection:
			err = a.begin(persistence.Section(payload))
		case kindRow:
			err = a.row(payload, each)
		case kindCounts:
			return a.end(payload)
		default:
			err = corrupt(nil, "there is a record of kind %d where rows were expected", kind)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (a *reader) begin(s persistence.Section) error {
	if _, again := a.seen[s]; again {
		return corrupt(nil, "section %s comes twice", s)
	}
	if a.section = codecOf(s); a.section == nil {
		return fmt.Errorf("the archive holds %q, which this dash does not know: restore it with dash %s or newer", s, a.header.By)
	}
	a.seen[s] = 0
	return nil
}

func (a *reader) row(payload []byte, each func(row any) error) error {
	if a.section == nil {
		return corrupt(nil, "a row belongs to no section")
	}
	row, err := a.section.decode(payload)
	if err != nil {
		return corrupt(err, "row %d of %s cannot be read", a.seen[a.section.section]+1, a.section.section)
	}
	a.seen[a.section.section]++
	return each(row)
}

func (a *reader) end(payload []byte) (*Manifest, error) {
	counts := map[persistence.Section]int64{}
	if err := strict(payload, &counts); err != nil {
		return nil, corrupt(err, "its counts cannot be read")
	}
	if d := differences(counts, a.seen); d != "" {
		return nil, corrupt(nil, "%s", d)
	}
	want := a.sum.Sum(nil)
	kind, sum, err := a.record()
	switch {
	case err != nil:
		return nil, err
	case kind != kindSum || !bytes.Equal(sum, want):
		return nil, corrupt(nil, "its checksum is wrong")
	}
	m := a.manifest()
	m.SHA256 = hex.EncodeToString(want)
	if m.Signed, err = a.signature(); err != nil {
		return nil, err
	}
	if _, err := a.buf.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, corrupt(nil, "something follows its end")
	}
	return m, nil
}

// signature reads the last record, which an archive that nobody signed lacks.
func (a *reader) signature() (s Signature, err error) {
	if _, err := a.buf.Peek(1); err != nil || a.header.Format < 3 {
		return s, nil // whatever follows is found by the caller
	}
	kind, payload, err := a.record()
	switch {
	case err != nil:
		return s, err
	case kind != kindSigned || len(payload) > maxSignature:
		return s, corrupt(nil, "something follows its end")
	}
	if err := strict(payload, &s); err != nil || s.Key == "" {
		return s, corrupt(err, "its signature cannot be read")
	}
	return s, nil
}
