package backup_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
)

// memory is a store in memory; it gives and takes rows as engines do.
type memory struct {
	rows []any
	mark persistence.Mark
	lose bool // Restore says that a row is missing
}

func (m *memory) Snapshot(context.Context) (persistence.Snapshot, error) { return m, nil }
func (m *memory) Close() error                                           { return nil }

func (m *memory) Source() persistence.Source {
	return persistence.Source{Engine: "memory", Schema: 1, Mark: persistence.Mark{Seq: 5, Time: time.Unix(1, 0)}}
}

func (m *memory) Rows(_ context.Context, emit func(any) error) error {
	for _, r := range m.rows {
		if err := emit(r); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Restore(_ context.Context, mark persistence.Mark, rows iter.Seq2[any, error]) (map[persistence.Section]int64, error) {
	m.mark = mark
	counts := map[persistence.Section]int64{}
	for r, err := range rows {
		if err != nil {
			m.rows = nil
			return nil, err
		}
		m.rows = append(m.rows, r)
		switch r.(type) {
		case *persistence.TaskRow:
			counts[persistence.SectionTasks]++
		case *messages.Gateway:
			counts[persistence.SectionGateways]++
		case *messages.Ownership:
			counts[persistence.SectionOwnership]++
		}
	}
	if m.lose {
		counts[persistence.SectionTasks]--
	}
	return counts, nil
}

func sample() *memory {
	return &memory{rows: []any{
		&messages.Gateway{ID: "gw", Home: "left out", Token: "top secret", Managed: &messages.Managed{Port: 1}},
		&messages.Ownership{Scope: messages.ShardScope, Key: "7", Owner: "n1", Epoch: 41},
		&persistence.TaskRow{Task: messages.Task{ID: "a", Spec: &messages.TaskSpec{}, State: messages.Queued, CreatedAt: messages.Now()}, IdemKey: "k", IdemHash: []byte{1}},
		&persistence.TaskRow{Task: messages.Task{ID: "b", Error: &messages.TaskError{Code: "x"}, Result: &messages.TaskResult{Text: "y"}}, Ended: 9},
	}}
}

func write(t *testing.T, m *memory, to ...backup.Recipient) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := backup.Write(t.Context(), &b, m, backup.Options{By: "v1", Recipients: to}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		to  []backup.Recipient
		ids []backup.Identity
	}{
		"clear":  {},
		"sealed": {[]backup.Recipient{id.Recipient()}, []backup.Identity{id}},
	} {
		from, to := sample(), &memory{}
		b := write(t, from, c.to...)
		if bytes.Contains(b, []byte("top secret")) {
			t.Errorf("%s: the archive is not even compressed", name)
		}
		m, err := backup.Restore(t.Context(), to, bytes.NewReader(b), c.ids, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := sample().rows
		want[0].(*messages.Gateway).Home = ""
		*want[1].(*messages.Ownership) = messages.Ownership{Scope: messages.ShardScope, Key: "7", Epoch: 42}
		want[2].(*persistence.TaskRow).Task.CreatedAt = from.rows[2].(*persistence.TaskRow).Task.CreatedAt
		if diff := cmp.Diff(want, to.rows, protocmp.Transform()); diff != "" {
			t.Errorf("%s: rows (-want +got):\n%s", name, diff)
		}
		if got := to.rows[0].(*messages.Gateway).Token.Reveal(); got != "top secret" {
			t.Errorf("%s: token %q", name, got)
		}
		if m.Source.Mark.Seq != 5 || !to.mark.Time.Equal(time.Unix(1, 0)) || m.By != "v1" || m.Rows() != 4 {
			t.Errorf("%s: manifest %+v, mark %+v", name, m, to.mark)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	sealed := write(t, sample(), id.Recipient())
	if _, err := backup.Verify(t.Context(), bytes.NewReader(sealed), nil, nil); !errors.Is(err, backup.ErrEncrypted) {
		t.Errorf("without an identity: %v", err)
	}
	if _, err := backup.Verify(t.Context(), bytes.NewReader(sealed), []backup.Identity{other}, nil); !errors.Is(err, backup.ErrIdentity) {
		t.Errorf("with another identity: %v", err)
	}
	file := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(file, []byte("# made by hand\n"+id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := backup.ReadIdentities(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Verify(t.Context(), bytes.NewReader(sealed), ids, nil); err != nil {
		t.Errorf("with the identity of a file: %v", err)
	}
	if _, err := backup.ParseRecipients([]string{id.String()}); err == nil || !strings.Contains(err.Error(), "not a public key") {
		t.Errorf("a secret key as recipient: %v", err)
	}
}

// TestDamage: whatever is changed, cut off or added is noticed, and an archive
// is refused before the store is touched.
func TestDamage(t *testing.T) {
	t.Parallel()
	whole := write(t, sample())
	m, err := backup.Verify(t.Context(), bytes.NewReader(whole), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		broken := bytes.Clone(whole)
		broken[i] ^= 0x10
		// Some bits of the compression's frame do not matter to its content.
		if got, err := backup.Verify(t.Context(), bytes.NewReader(broken), nil, nil); err != nil || got.SHA256 != m.SHA256 {
			refused(t, broken, "bit of byte", i)
		}
		refused(t, whole[:i], "cut after", i)
	}
	refused(t, append(bytes.Clone(whole), whole...), "twice", 0)
	refused(t, append(bytes.Clone(whole), 'x'), "a byte more", 0)
}

func refused(t *testing.T, archive []byte, what string, i int) {
	t.Helper()
	to := &memory{}
	if _, err := backup.Restore(t.Context(), to, bytes.NewReader(archive), nil, nil, nil); err == nil {
		t.Errorf("%s %d was not noticed", what, i)
	}
	if to.rows != nil || !to.mark.Time.IsZero() {
		t.Errorf("%s %d: the store was touched", what, i)
	}
}

// TestAnArchiveThatLacksARow is refused although its checksum is right: whoever
// wrote it lost the row on the way.
func TestAnArchiveThatLacksARow(t *testing.T) {
	t.Parallel()
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	plain, err := d.DecodeAll(write(t, sample()), nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	const last = 2 + sha256.Size // the record of the checksum: kind, length, sum
	body := plain[:len(plain)-last]
	told := bytes.Replace(body, []byte(`"tasks":2`), []byte(`"tasks":3`), 1)
	if bytes.Equal(told, body) {
		t.Fatalf("no count of two tasks in %q", body)
	}
	sum := sha256.Sum256(told)
	broken := slices.Concat(told, plain[len(plain)-last:len(plain)-sha256.Size], sum[:])
	_, err = backup.Verify(t.Context(), bytes.NewReader(e.EncodeAll(broken, nil)), nil, nil)
	var corrupt *backup.CorruptError
	if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "2 rows and not 3") {
		t.Errorf("%v, want that a row of the tasks is missing", err)
	}
}

// TestDamageInside: changes that the compression's own checksum cannot see,
// because whoever made them compressed again.
func TestDamageInside(t *testing.T) {
	t.Parallel()
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	plain, err := d.DecodeAll(write(t, sample()), nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range plain {
		broken := bytes.Clone(plain)
		broken[i] ^= 1
		refused(t, e.EncodeAll(broken, nil), "content byte", i)
		refused(t, e.EncodeAll(plain[:i], nil), "content cut after", i)
	}
	refused(t, e.EncodeAll(append(plain, 0), nil), "content and a byte", 0)
}

// changing gives another archive at the second reading.
type changing struct {
	*bytes.Reader
	second []byte
	seeks  int
}

func (c *changing) Seek(offset int64, whence int) (int64, error) {
	if c.seeks++; c.seeks == 2 {
		c.Reset(c.second)
	}
	return c.Reader.Seek(offset, whence)
}

func TestRestoreDistrusts(t *testing.T) {
	t.Parallel()
	other := sample()
	other.rows = other.rows[:3]
	_, err := backup.Restore(t.Context(), &memory{}, &changing{Reader: bytes.NewReader(write(t, sample())), second: write(t, other)}, nil, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "changed while") {
		t.Errorf("an archive that changes: %v", err)
	}
	_, err = backup.Restore(t.Context(), &memory{lose: true}, bytes.NewReader(write(t, sample())), nil, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "tasks has 1 rows and not 2") {
		t.Errorf("a store that loses a row: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := backup.Restore(ctx, &memory{}, bytes.NewReader(write(t, sample())), nil, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	for name, rows := range map[string][]any{
		"no place in an archive": {&time.Time{}},
		"in two places":          {&persistence.PoolSeq{}, &messages.Ownership{}, &persistence.PoolSeq{}},
	} {
		_, err := backup.Write(t.Context(), &bytes.Buffer{}, &memory{rows: rows}, backup.Options{})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzVerify: whatever an archive holds, it is refused and not followed.
func FuzzVerify(f *testing.F) {
	var b bytes.Buffer
	if _, err := backup.Write(f.Context(), &b, sample(), backup.Options{}); err != nil {
		f.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := d.DecodeAll(b.Bytes(), nil)
	d.Close()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte("DASHBKP\n\x01\x02{}\x02\x05tasks\x03\xff\xff\xff\xff\x0f"))
	e, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := backup.Verify(t.Context(), bytes.NewReader(e.EncodeAll(content, nil)), nil, nil)
		if (m == nil) == (err == nil) {
			t.Errorf("%v and %v", m, err)
		}
	})
}
