package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	sqlitedrv "modernc.org/sqlite"
)

// conn is the writer's connection. It talks to the driver without database/sql,
// which halves the cost of a small statement. Only the holder of writer.sem
// uses it.
type conn struct {
	dc    driver.Conn
	stmts [numStmts]stmt
}

// stmt is a statement kept prepared, with room for its arguments.
type stmt struct {
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
	args  []driver.NamedValue
	close func() error
}

// rowReader is what conn.row needs to fill destinations.
type rowReader func(cols []driver.Value) error

func openConn(ctx context.Context, dir string) (*conn, error) {
	dc, err := (&sqlitedrv.Driver{}).Open(dsn(dir, writerPragmas))
	if err != nil {
		return nil, fmt.Errorf("open writer: %w", err)
	}
	c := &conn{dc: dc}
	prep, ok := dc.(driver.ConnPrepareContext)
	if !ok {
		return nil, errors.Join(errors.New("open writer: the driver cannot prepare with a context"), dc.Close())
	}
	for i := range c.stmts {
		if err := c.stmts[i].prepare(ctx, prep, statements[i]); err != nil {
			return nil, errors.Join(fmt.Errorf("prepare %.40q: %w", statements[i], err), c.close())
		}
	}
	if err := c.durable(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// durable reads back what the promise rests on: SQLite passes over a pragma
// that a build or a file system cannot keep.
func (c *conn) durable() error {
	var mode string
	var sync int64
	err := c.query(`SELECT journal_mode, synchronous FROM pragma_journal_mode, pragma_synchronous`, func(v []driver.Value) error {
		mode, sync = text(v[0]), integer(v[1])
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("read settings back: %w", err)
	case mode != "wal" || sync < syncFull:
		return fmt.Errorf("SQLite does not keep what it acknowledges here: journal_mode is %s and synchronous %d, want wal and %d; the data folder must be on a local file system", mode, sync, syncFull)
	}
	return nil
}

// syncFull is PRAGMA synchronous with an fsync for every commit.
const syncFull = 2

func (s *stmt) prepare(ctx context.Context, prep driver.ConnPrepareContext, text string) error {
	ds, err := prep.PrepareContext(context.WithoutCancel(ctx), text)
	if err != nil {
		return err
	}
	s.close = ds.Close
	var okE, okQ bool
	s.exec, okE = ds.(driver.StmtExecContext)
	s.query, okQ = ds.(driver.StmtQueryContext)
	if !okE || !okQ {
		return errors.New("the driver cannot execute with a context")
	}
	return nil
}

func (c *conn) close() error {
	var errs []error
	for i := range c.stmts {
		if c.stmts[i].close != nil {
			errs = append(errs, c.stmts[i].close())
		}
	}
	return errors.Join(append(errs, c.dc.Close())...)
}

// run executes statement n to its end. A statement is never interrupted, so
// that a caller who gives up cannot leave a batch half known.
func (c *conn) run(n int, args ...driver.Value) (changed int64, err error) {
	res, err := c.stmts[n].exec.ExecContext(noCancel, c.stmts[n].bind(args))
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// rows calls read for every row of statement n.
func (c *conn) rows(n int, read rowReader, args ...driver.Value) error {
	rows, err := c.stmts[n].query.QueryContext(noCancel, c.stmts[n].bind(args))
	if err != nil {
		return err
	}
	return each(rows, read)
}

// each calls read for every row and closes rows.
func each(rows driver.Rows, read rowReader) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	dest := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(dest); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := read(dest); err != nil {
			return err
		}
	}
}

func (s *stmt) bind(args []driver.Value) []driver.NamedValue {
	if cap(s.args) < len(args) {
		s.args = make([]driver.NamedValue, len(args))
	}
	s.args = s.args[:len(args)]
	for i, v := range args {
		s.args[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return s.args
}

// never is a context without end for statements that must not be interrupted.
type never struct{}

func (never) Deadline() (time.Time, bool) { return time.Time{}, false }
func (never) Done() <-chan struct{}       { return nil }
func (never) Err() error                  { return nil }
func (never) Value(any) any               { return nil }

var noCancel context.Context = never{}
