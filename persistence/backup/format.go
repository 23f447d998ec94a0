package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/persistence"
)

// formatVersion is the newest archive format that this binary writes and reads.
const formatVersion = 3

// magic begins what is inside the compression.
const magic = "DASHBKP\n"

// maxRecord bounds one record: far more than the largest task the API takes.
const maxRecord = 64 << 20

// Kinds of records. A record is its kind, the length of its payload as a
// uvarint, and the payload.
const (
	kindHeader  byte = 1 // JSON of header
	kindSection byte = 2 // name of the section of the rows that follow
	kindRow     byte = 3
	kindCounts  byte = 4 // JSON of the rows per section
	kindSum     byte = 5 // SHA-256 of every byte before this record
	kindSigned  byte = 6 // JSON of Signature, of an archive that is signed
)

// header opens an archive.
type header struct {
	// Format: 2 since keys have digests, and gateways and nodes homes; 3 since
	// keys have parents, archives are signed and the secrets of gateways may be sealed.
	Format int       `json:"format"`
	Engine string    `json:"engine"`
	Schema int64     `json:"schema"`
	Shards int       `json:"shards"`
	Seq    int64     `json:"mark_seq"`
	Time   time.Time `json:"mark_time"`
	Made   time.Time `json:"made"`
	By     string    `json:"by"` // version of dash
}

// Manifest describes an archive.
type Manifest struct {
	Source persistence.Source
	Shards int
	Made   time.Time // by the clock of whoever made it
	By     string    // version of dash that made it
	Counts map[persistence.Section]int64
	SHA256 string // of the content, in hex
	Signed Signature
}

// Signature says who vouches for the sum of an archive. The zero value: nobody.
type Signature struct {
	Key string `json:"key"` // id of the key
	MAC []byte `json:"mac"`
}

// maxSignature bounds its record.
const maxSignature = 4 << 10

// Rows is the number of rows over all sections.
func (m *Manifest) Rows() (n int64) {
	for _, c := range m.Counts {
		n += c
	}
	return n
}

// CorruptError says that an archive is not what was written.
type CorruptError struct {
	Why string
	Err error
}

func (e *CorruptError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("the archive is damaged: %s: %v", e.Why, e.Err)
	}
	return "the archive is damaged: " + e.Why
}

func (e *CorruptError) Unwrap() error { return e.Err }

func corrupt(err error, format string, args ...any) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	return &CorruptError{Why: fmt.Sprintf(format, args...), Err: err}
}

// appendRecord adds the head of a record; the payload follows.
func appendRecord(b []byte, kind byte, size int) []byte {
	return binary.AppendUvarint(append(b, kind), uint64(size))
}

// differences says where two counts differ, in words; empty: nowhere.
func differences(want, got map[persistence.Section]int64) string {
	names := map[persistence.Section]bool{}
	for s := range want {
		names[s] = true
	}
	for s := range got {
		names[s] = true
	}
	var out []string
	for _, s := range slices.Sorted(maps.Keys(names)) {
		if want[s] != got[s] {
			out = append(out, fmt.Sprintf("%s has %d rows and not %d", s, got[s], want[s]))
		}
	}
	return strings.Join(out, ", ")
}
