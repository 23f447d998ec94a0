package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/dash-fleet/dash/persistence"
)

// partial ends the name of an archive that is still being written.
const partial = ".partial"

// ErrExists: there is a file of that name.
var ErrExists = errors.New("the file exists already")

// File is an archive on disk.
type File struct {
	Manifest

	Path  string
	Bytes int64
}

// Create makes an archive of a store at path, mode 0600, in a folder that
// exists. The file appears under its name only when it is durable and was read
// back: an archive in the clear is decoded, of an encrypted one every byte is
// compared by checksum. An error leaves nothing behind.
func Create(ctx context.Context, path string, from persistence.Snapshotter, o Options) (f *File, err error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%s: %w", path, ErrExists)
	}
	s, err := from.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	temp := path + partial
	// O_EXCL keeps a second process from writing the same archive.
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%s: another backup is writing it, or one was interrupted; remove the file if no backup runs: %w", temp, ErrExists)
	}
	if err != nil {
		return nil, fmt.Errorf("make archive: %w", err)
	}
	defer func() {
		if err != nil {
			if rerr := os.Remove(temp); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
	}()
	m, sum, err := fill(ctx, out, s, o)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	size, err := readBack(ctx, temp, m, sum, len(o.Recipients) > 0)
	if err != nil {
		return nil, fmt.Errorf("read %s back: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return nil, fmt.Errorf("name archive: %w", err)
	}
	return &File{Manifest: *m, Path: path, Bytes: size}, syncDir(filepath.Dir(path))
}

// fill writes the archive, forces it to disk and closes the file.
func fill(ctx context.Context, out *os.File, s persistence.Snapshot, o Options) (m *Manifest, sum hash.Hash, err error) {
	defer func() { err = errors.Join(err, out.Close()) }()
	sum = sha256.New()
	if m, err = Write(ctx, io.MultiWriter(out, sum), s, o); err != nil {
		return nil, nil, err
	}
	return m, sum, out.Sync()
}

// readBack proves that the file holds what was written.
func readBack(ctx context.Context, path string, m *Manifest, sum hash.Hash, sealed bool) (size int64, err error) {
	in, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	again := sha256.New()
	if size, err = io.Copy(again, in); err != nil {
		return 0, err
	}
	if string(again.Sum(nil)) != string(sum.Sum(nil)) {
		return 0, corrupt(nil, "the disk gives back something else than was written")
	}
	if sealed {
		return size, nil
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	got, err := Verify(ctx, in, nil, nil)
	if err != nil {
		return 0, err
	}
	if got.SHA256 != m.SHA256 {
		return 0, corrupt(nil, "its checksum is another one than when it was written")
	}
	return size, nil
}

// syncDir makes a change of names durable.
func syncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}
