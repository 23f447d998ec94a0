package app

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

	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// home is where gateways live that only one node can reach: the node's name
// and an id kept in its data folder, so that two nodes of one name, or on one
// host, differ. Without an id (the folder is temporary) the name alone counts.
type home struct{ node, id string }

// keeps reports whether a node of this home may start and dial the gateway. One
// that nobody has claimed yet (made for another node, or by a release without
// homes) belongs to the first node of its name.
func (h home) keeps(g *messages.Gateway) bool {
	switch {
	case !g.HomeBound():
		return true
	case g.Home != "":
		return g.Home == h.id
	}
	return g.Node == h.node || g.Node == ""
}

// Files of the data folder.
const (
	homeFile = "home.id"
	nodeLock = "node.lock"
)

// openHome takes the data folder for this process and reads its id, or makes
// one. With the embedded store there is one node, and every gateway is at home.
func (a *App) openHome(ctx context.Context) error {
	a.home = home{node: a.cfg.Node}
	if !a.engine.Shared {
		return nil
	}
	lock, err := lockFolder(a.cfg.Data)
	if err != nil {
		return err
	}
	a.cleanup.add("lock of the data folder", func(context.Context) error { return unlockFolder(lock) })
	if a.temporary {
		return nil
	}
	a.home.id, err = homeID(a.cfg.Data)
	return err
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
const twinLook = cluster.TTL / 10

// refuseTwin waits until no other life of this home has a valid lease. Those of
// processes that were killed end by themselves; one that is renewed, or that
// begins meanwhile, is a twin's.
func (a *App) refuseTwin(ctx context.Context, nodes []messages.Node) error {
	former := a.lives(nodes)
	if len(former) == 0 {
		return nil
	}
	a.logger.Info("waiting for the end of this node's former lease", slog.Int("lives", len(former)))
	t := time.NewTicker(twinLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		nodes, err := a.lease.Renew(ctx)
		if err != nil {
			return err
		}
		now := a.lives(nodes)
		if len(now) == 0 {
			return nil
		}
		for id, n := range now {
			if old, known := former[id]; !known || n.Expires.After(old.Expires) {
				return errors.Join(&TwinError{
					Reason: "the home of this node (" + filepath.Join(a.cfg.Data, homeFile) + ") is alive in another process, node " + id + " at " + n.Addr,
					Dir:    a.cfg.Data,
				}, a.lease.End(ctx))
			}
		}
	}
}

// lives are the other lives of this node's home whose lease is valid, by id.
func (a *App) lives(nodes []messages.Node) map[string]messages.Node {
	found := map[string]messages.Node{}
	for _, n := range nodes {
		if a.home.id != "" && n.Home == a.home.id && n.ID != a.nodeID {
			found[n.ID] = n
		}
	}
	return found
}

// elsewhere says why this node must not start or dial the gateway; an empty
// reason: it may.
func (f *parts) elsewhere(g messages.Gateway) (reason, step string) {
	a := f.app
	if !a.engine.Shared || a.home.keeps(&g) {
		return "", ""
	}
	reason = "its home is node " + g.Node + ", and node " + a.nodeID + " does the work: only its home starts and dials it"
	if g.Node == a.home.node {
		reason = "its home is the node " + g.Node + " with another data folder, and node " + a.nodeID + " does the work: only its home starts and dials it"
	}
	return reason, fmt.Sprintf(next.StartHome, g.Node, g.ID)
}

// claimHome makes an unclaimed gateway that this node may reach its own.
func (f *parts) claimHome(ctx context.Context, g messages.Gateway) (messages.Gateway, error) {
	h := f.app.home
	for f.app.engine.Shared && h.id != "" && g.Home == "" && g.HomeBound() && h.keeps(&g) {
		g.Home, g.Node = h.id, h.node
		claimed, err := f.app.repos.Gateways.Update(ctx, g)
		if err == nil {
			f.app.logger.Info("this node is the home of the gateway from now on", slog.String("gateway", g.ID))
			return claimed, nil
		}
		if !errors.Is(err, persistence.ErrVersion) {
			return g, fmt.Errorf("claim gateway %s: %w", g.ID, err)
		}
		if g, err = f.app.repos.Gateways.Get(ctx, g.ID); err != nil {
			return g, fmt.Errorf("claim gateway %s: %w", g.ID, err)
		}
	}
	return g, nil
}
