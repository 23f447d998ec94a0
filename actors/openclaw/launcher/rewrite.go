package launcher

import (
	"bytes"
	"context"
	"errors"
	"os"

	"github.com/dash-fleet/dash/messages/next"
)

// Rewriting is what Rewrite found or did.
type Rewriting int

// What Rewrite found or did.
const (
	NeedsStart Rewriting = iota // only a start brings what is wanted, or nothing lives
	Unneeded                    // the record says that the process runs with it
	Present                     // its file said so already; whether it took it, nobody noted
	Written
)

// rewritten is a configuration file that a living process was given.
type rewritten struct {
	config string // its fingerprint
	old    []byte // the file that the process runs with
}

// Rewrite gives the living daemon the configuration that spec asks for, in the
// file that the daemon watches. Whether the daemon takes it, its connection
// tells; Rewritten follows with that.
func (l *Launcher) Rewrite(ctx context.Context, spec Spec) (Rewriting, error) {
	g, err := l.lookup(spec.ID, false)
	if err != nil || g == nil {
		return NeedsStart, err
	}
	_, end, err := l.begin(ctx, g, opEnsure)
	if err != nil {
		return NeedsStart, err
	}
	defer end()
	pl, err := l.prepare(g.dir, spec)
	if err != nil {
		return NeedsStart, err
	}
	switch {
	case g.alive() == nil || !g.ready || g.rec.Start == "" || g.rec.restarts(pl.prints):
		return NeedsStart, nil
	case g.rec.Config == pl.prints.Config && g.rewritten == nil:
		return Unneeded, nil
	}
	content, err := pl.file(g.rec.Port, g.token)
	if err != nil {
		return NeedsStart, err
	}
	old, err := readFile(g.dir.config(), 2*settingsLimit)
	if err != nil {
		return NeedsStart, retryable(err, next.CheckGatewayFolder, "read the gateway's configuration")
	}
	if g.rewritten == nil { // else the process does not run with what is there now
		g.rewritten = &rewritten{old: old}
	}
	g.rewritten.config = pl.prints.Config
	if bytes.Equal(old, content) {
		return Present, nil
	}
	if err := g.replaceConfig(content); err != nil {
		return NeedsStart, retryable(err, next.CheckDataRightsSpace, "write the gateway's configuration")
	}
	return Written, nil
}

// Rewritten ends a Rewrite: the daemon runs with the new configuration, which
// the record then says, or refused it; then its file is put back, so that it
// can start again by itself.
func (l *Launcher) Rewritten(ctx context.Context, id string, taken bool) error {
	g, err := l.lookup(id, false)
	if err != nil || g == nil {
		return err
	}
	_, end, err := l.begin(ctx, g, opEnsure)
	if err != nil {
		return err
	}
	defer end()
	r := g.rewritten
	if r == nil || g.alive() == nil {
		return nil
	}
	g.rewritten = nil
	if !taken {
		if err := g.replaceConfig(r.old); err != nil {
			return retryable(err, next.CheckDataRightsSpace, "put the gateway's configuration back")
		}
		return nil
	}
	rec := g.rec
	rec.Config = r.config
	if err := rec.write(g.dir); err != nil {
		return retryable(err, next.CheckDataRightsSpace, "record the gateway's configuration")
	}
	g.mu.Lock()
	g.rec = rec
	g.mu.Unlock()
	return nil
}

// replaceConfig writes the configuration file under a living daemon. The daemon
// may tell by the number of the inode alone that its file was replaced (chokidar
// does, and otherwise goes on watching the one that is gone), so the one before
// keeps its number until the next: two writes in a row never end on the number
// from which the daemon began.
func (g *gateway) replaceConfig(content []byte) error {
	old, err := os.Open(g.dir.config())
	if err != nil {
		return err
	}
	if err := writeFile(g.dir.config(), content); err != nil {
		return errors.Join(err, old.Close())
	}
	g.keep(old)
	return nil
}

// keep holds a replaced file open in place of the one before; nil: none.
func (g *gateway) keep(file *os.File) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.replaced != nil {
		_ = g.replaced.Close() // it was only read
	}
	g.replaced = file
}
