package launcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// folder is the layout of one gateway's folder.
type folder struct{ base string }

func (f folder) state() string     { return filepath.Join(f.base, "state") }
func (f folder) home() string      { return filepath.Join(f.base, "home") }
func (f folder) workspace() string { return filepath.Join(f.base, "workspace") }
func (f folder) config() string    { return filepath.Join(f.base, "openclaw.json") }
func (f folder) output() string    { return filepath.Join(f.base, "gateway.log") }
func (f folder) ownLog() string    { return filepath.Join(f.base, "openclaw.log") }
func (f folder) record() string    { return filepath.Join(f.base, "launch.json") }
func (f folder) lock() string      { return filepath.Join(f.base, "lock") }

// folderOf returns where a gateway lives. An id such as ".." is a legal id but
// not a folder name: a leading dot is written %2E, and ids hold no "%".
func (l *Launcher) folderOf(id, own string) (folder, error) {
	if own != "" {
		if r := l.folderRefused(own); r != nil {
			return folder{}, r.err()
		}
		return folder{own}, nil
	}
	if rest, ok := strings.CutPrefix(id, "."); ok {
		id = "%2E" + rest
	}
	return folder{filepath.Join(l.cfg.Dir, "gateways", id)}, nil
}

// StateDir tells where the gateway's folder is, and whether a start would find
// the state of an earlier one there.
func (l *Launcher) StateDir(id, own string) (dir string, there bool) {
	f, err := l.folderOf(id, own)
	if err != nil {
		return own, false
	}
	kept, err := os.ReadDir(f.state())
	return f.base, err == nil && len(kept) > 0
}

// Launched lists the gateways that have a folder below the data folder and were
// started there once, by id.
func (l *Launcher) Launched() (ids []string, err error) {
	all, err := os.ReadDir(filepath.Join(l.cfg.Dir, "gateways"))
	if err != nil {
		return nil, fmt.Errorf("list the folders of gateways: %w", err)
	}
	for _, entry := range all {
		id := entry.Name()
		if rest, ok := strings.CutPrefix(id, "%2E"); ok {
			id = "." + rest
		}
		f, err := l.folderOf(id, "")
		if err != nil || messages.CheckID(id) != nil {
			continue // no folder of ours
		}
		if _, err := os.Stat(f.record()); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// foreign is the name of something that stands where a gateway keeps its own, in
// a folder that was no gateway's: it would be written over. Empty: there is none.
func (f folder) foreign() string {
	for _, ours := range []string{f.record(), f.lock()} {
		if _, err := os.Lstat(ours); err == nil {
			return ""
		}
	}
	for _, path := range []string{f.state(), f.home(), f.workspace(), f.config()} {
		if _, err := os.Lstat(path); err == nil {
			return filepath.Base(path)
		}
	}
	return ""
}

// open takes the lock and makes the folders, readable by the owner only. The lock
// comes first: it is what tells the folder from one of somebody else.
func (f folder) open() (*os.File, error) {
	if err := f.make(f.base); err != nil {
		return nil, err
	}
	// A folder of the operator's own keeps its rights, but whoever can write to
	// it could exchange the configuration.
	if info, err := os.Stat(f.base); err != nil || info.Mode().Perm()&0o022 != 0 {
		e := permanent(fmt.Sprintf(next.ChmodFolder, f.base), "other users can write to the folder of the gateway, %s", f.base)
		e.Err = err
		return nil, e
	}
	// The lock file may be removed with its folder between open and flock: then
	// we hold a file nobody else can see, and try again.
	for range 3 {
		lock, err := f.tryLock()
		if err != nil {
			return nil, err
		}
		if lock == nil {
			continue
		}
		if err := f.make(f.state(), f.home(), f.workspace()); err != nil {
			unlock(lock)
			return nil, err
		}
		return lock, nil
	}
	return nil, retryable(nil, "", "the lock of %s was removed while it was taken", f.base)
}

func (f folder) make(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return retryable(err, next.CheckDataFolder, "make the folder of the gateway")
		}
	}
	return nil
}

func (f folder) tryLock() (*os.File, error) {
	lock, err := os.OpenFile(f.lock(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, retryable(err, next.CheckDataRights, "open the lock of the gateway")
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, retryable(nil, next.StopOtherDash, "another Dash process, or another gateway, uses %s", f.base)
		}
		return nil, retryable(err, next.LocalDisk, "lock the gateway's folder")
	}
	held, herr := lock.Stat()
	named, nerr := os.Stat(f.lock())
	if herr != nil || nerr != nil || !os.SameFile(held, named) {
		lock.Close()
		return nil, nil
	}
	return lock, nil
}

// unlock frees a lock that tryLock took. The kernel refuses neither call for a
// descriptor that is open, and nothing was written that could be lost.
func unlock(lock *os.File) {
	_ = unix.Flock(int(lock.Fd()), unix.LOCK_UN)
	_ = lock.Close()
}

// writeFile replaces path by data, readable by the owner only: after a crash
// the old or the new content is there, whole.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func isMissing(err error) bool { return errors.Is(err, os.ErrNotExist) }

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, limit)
	}
	return os.ReadFile(path)
}
