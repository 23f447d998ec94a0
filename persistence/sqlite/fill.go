package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The log is filled with zeros up to its bound, one step at a time, while the
// store already serves: an fsync that makes a file longer also writes the file
// system's journal, and costs two to five times the wait and twice the CPU of
// one that writes over what is there. A log that starts over has that for free,
// but may need minutes to get there.
const (
	fillStep  = 1 << 20
	fillPause = 20 * time.Millisecond
	// fillMost bounds what is filled, fillFree is what the disk must have left.
	fillMost = 64 << 20
	fillFree = 1 << 30
)

// filler owns one goroutine, which ends when the log is long enough.
type filler struct {
	w      *writer
	path   string
	target int64
	cancel context.CancelFunc
	done   chan struct{}
}

func startFiller(ctx context.Context, cfg Config, w *writer) *filler {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &filler{
		w: w, path: filepath.Join(cfg.Dir, FileName+"-wal"), target: min(cfg.WALBytes, fillMost),
		cancel: cancel, done: make(chan struct{}),
	}
	go func() {
		defer close(f.done)
		if err := f.run(run); err != nil && run.Err() == nil {
			cfg.Logger.Warn("write-ahead log not filled in advance; commits are slower until it starts over", slog.Any("err", err))
		}
	}()
	return f
}

func (f *filler) stop() {
	f.cancel()
	<-f.done
}

func (f *filler) run(ctx context.Context) (err error) {
	// The log has no locks of its own, so closing the file drops none of SQLite's.
	file, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	t := time.NewTicker(fillPause)
	defer t.Stop()
	zeros := make([]byte, fillStep)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		more, err := f.step(ctx, file, zeros)
		if err != nil || !more {
			return err
		}
		// Beside the commits, so that none of them has the whole step to write.
		if err := file.Sync(); err != nil {
			return fmt.Errorf("sync log: %w", err)
		}
	}
}

// step adds zeros behind the end of the log. Whoever reads the log stops at the
// first frame whose checksum does not fit, so they mean nothing. All that is
// written to the log is written by the holder of the writer: it must be held, or
// the end might be another one by the time of the write.
func (f *filler) step(ctx context.Context, file *os.File, zeros []byte) (more bool, err error) {
	if err := f.w.acquire(ctx); err != nil {
		return false, err
	}
	defer f.w.release()
	info, err := file.Stat()
	if err != nil {
		return false, fmt.Errorf("read size of log: %w", err)
	}
	now, err := os.Stat(f.path)
	if err != nil || !os.SameFile(info, now) {
		return false, err // another log by now: it is not ours to fill
	}
	n := min(f.target-info.Size(), fillStep)
	if n <= 0 {
		return false, nil
	}
	free, err := freeBytes(f.path)
	if err != nil || free < fillFree {
		return false, err
	}
	if _, err := file.WriteAt(zeros[:n], info.Size()); err != nil {
		return false, fmt.Errorf("fill log: %w", err)
	}
	return true, nil
}

// freeBytes is what the file system leaves to anybody but root.
func freeBytes(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, fmt.Errorf("read free space: %w", err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
