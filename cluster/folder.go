package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Files of the data folder.
const (
	homeFile = "home.id"
	nodeLock = "node.lock"
)

// OpenHome takes the data folder for this process, until unlock, and reads its id,
// or makes one. A temporary folder has none.
func OpenHome(node, dir string, temporary bool) (h Home, unlock func(context.Context) error, err error) {
	h = Home{Node: node}
	lock, err := lockFolder(dir)
	if err != nil {
		return h, nil, err
	}
	if !temporary {
		if h.ID, err = homeID(dir); err != nil {
			return h, nil, errors.Join(err, unlockFolder(lock))
		}
	}
	return h, func(context.Context) error { return unlockFolder(lock) }, nil
}

// lockFolder holds until unlockFolder or the end of the process.
func lockFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, nodeLock)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := "another process"
		if pid, rerr := os.ReadFile(path); rerr == nil && len(pid) > 0 {
			holder = "process " + strings.TrimSpace(string(pid))
		}
		return nil, errors.Join(&TwinError{Reason: "the data folder " + dir + " is in use by " + holder, Dir: dir}, f.Close())
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the data folder: %w", err), f.Close())
	}
	return f, nil
}

// unlockFolder does not leave it to the close: a child that another goroutine has
// forked a moment ago holds a copy of the descriptor until it becomes its program.
func unlockFolder(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

// homeID reads the folder's id; the first start makes it, whole or not at all.
func homeID(dir string) (string, error) {
	path := filepath.Join(dir, homeFile)
	raw, err := os.ReadFile(path)
	if err == nil {
		id := strings.TrimSpace(string(raw))
		if messages.CheckID(id) != nil {
			return "", fmt.Errorf("%s does not hold the id of this node's home; %s", path, next.RestoreHomeFile)
		}
		return id, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the id of this node's home: %w", err)
	}
	id := messages.NewID()
	if err := writeDurably(path, id+"\n"); err != nil {
		return "", fmt.Errorf("keep the id of this node's home: %w", err)
	}
	return id, nil
}

func writeDurably(path, text string) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// TwinError refuses a node whose home is alive in another process: both would
// start the same gateways.
type TwinError struct{ Reason, Dir string }

func (e *TwinError) Error() string { return e.Reason }

// NextStep says what an operator can do.
func (e *TwinError) NextStep() string {
	return fmt.Sprintf(next.StopTwin, filepath.Join(e.Dir, homeFile))
}

// twinLook is the pause between two looks for a twin.
const twinLook = TTL / 10

// RefuseTwin waits until no other life of this node's home, in the data folder dir,
// has a valid lease; nodes are those of the first renewal. Those of
// processes that were killed end by themselves; one that is renewed, or that
// begins meanwhile, is a twin's.
func (l *Lease) RefuseTwin(ctx context.Context, nodes []messages.Node, dir string) error {
	former := l.lives(nodes)
	if len(former) == 0 {
		return nil
	}
	l.cfg.Logger.Info("waiting for the end of this node's former lease", slog.Int("lives", len(former)))
	t := time.NewTicker(twinLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		nodes, err := l.Renew(ctx)
		if err != nil {
			return err
		}
		now := l.lives(nodes)
		if len(now) == 0 {
			return nil
		}
		for id, n := range now {
			if old, known := former[id]; !known || n.Expires.After(old.Expires) {
				return errors.Join(&TwinError{
					Reason: "the home of this node (" + filepath.Join(dir, homeFile) + ") is alive in another process, node " + id + " at " + n.Addr,
					Dir:    dir,
				}, l.End(ctx))
			}
		}
	}
}

// lives are the other lives of this node's home whose lease is valid, by id.
func (l *Lease) lives(nodes []messages.Node) map[string]messages.Node {
	found := map[string]messages.Node{}
	for _, n := range nodes {
		if l.cfg.Self.Home != "" && n.Home == l.cfg.Self.Home && n.ID != l.cfg.Self.ID {
			found[n.ID] = n
		}
	}
	return found
}
