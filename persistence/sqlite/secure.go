package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// The layout of a write-ahead log, see the file format of SQLite.
const (
	logHeader   = 32
	frameHeader = 24
)

// secureLog makes what an unclean stop has left of the write-ahead log durable
// before anybody reads it, and reports whether there was any. After an fsync
// that failed, the kernel may call pages clean that never reached the disk. A
// process that ends then leaves frames that the next one reads, and takes for
// committed, and that a loss of power would take away together with every later
// commit. Writing the same bytes again makes the pages dirty again.
func secureLog(dir string) (unclean bool, err error) {
	f, err := os.OpenFile(filepath.Join(dir, FileName+"-wal"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open write-ahead log: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := logLength(f)
	if err != nil || size == 0 {
		return false, err
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if n == 0 && errors.Is(err, io.EOF) {
			break // the last frame was cut
		}
		if n == 0 {
			return true, fmt.Errorf("read write-ahead log: %w", err)
		}
		if _, err := f.WriteAt(buf[:n], at); err != nil {
			return true, fmt.Errorf("write write-ahead log again: %w", err)
		}
		at += int64(n)
	}
	if err := f.Sync(); err != nil {
		return true, fmt.Errorf("sync write-ahead log: %w", err)
	}
	return true, nil
}

// logLength is where the frames end that carry the header's salt. Those which
// SQLite takes for valid are among them.
func logLength(f io.ReaderAt) (int64, error) {
	var h [logHeader]byte
	if n, err := f.ReadAt(h[:], 0); n < len(h) {
		if errors.Is(err, io.EOF) {
			return 0, nil
		}
		return 0, fmt.Errorf("read write-ahead log: %w", err)
	}
	page := int64(binary.BigEndian.Uint32(h[8:]))
	if page < 512 || page > 1<<16 {
		return 0, nil // no log at all to SQLite either
	}
	var frame [frameHeader]byte
	for at := int64(logHeader); ; at += frameHeader + page {
		n, err := f.ReadAt(frame[:], at)
		if n < len(frame) && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read write-ahead log: %w", err)
		}
		if n < len(frame) || !bytes.Equal(frame[8:16], h[16:24]) {
			return at, nil
		}
	}
}

// checkTime bounds the check of the database after an unclean stop, so that a
// large store starts soon all the same: what is damaged there is refused by the
// first statement that meets it.
const checkTime = 2 * time.Second

// checkPages looks for damage in the database's structure.
func checkPages(ctx context.Context, cfg Config) (err error) {
	db, err := sql.Open("sqlite", dsn(cfg.Dir, readerPragmas))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	short, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var found string
	err = db.QueryRowContext(short, `PRAGMA quick_check(1)`).Scan(&found)
	switch {
	case isDamage(err):
		return &DamagedError{Err: err}
	case ctx.Err() != nil:
		return ctx.Err()
	case short.Err() != nil:
		cfg.Logger.Info("store not checked to its end after an unclean stop: it is large", slog.Duration("checked", checkTime))
		return nil
	case err != nil:
		return fmt.Errorf("check store: %w", err)
	case found != "ok":
		return &DamagedError{Err: errors.New(found)}
	}
	return nil
}
