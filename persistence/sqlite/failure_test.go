package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/storetest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
)

func closeDB(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func bigOp(size int) persistence.Op {
	t := messages.Task{
		ID: messages.NewID(), Tenant: "default", Pool: "default", State: messages.Queued, CreatedAt: messages.Now(),
		Spec: &messages.TaskSpec{Message: strings.Repeat("x", size)},
	}
	return persistence.Op{Insert: &persistence.TaskInsert{Task: t}, Events: []*messages.Event{t.Event(0, t.CreatedAt, "")}}
}

// checkRefused commits until the store refuses and checks that the batch it
// refused left nothing, then makes room and checks that writes work again.
func checkRefused(t *testing.T, db *DB, makeRoom func()) {
	t.Helper()
	ctx := t.Context()
	kept := 0
	var refused []persistence.Op
	var err error
	for range 10_000 {
		ops := []persistence.Op{bigOp(20 << 10), bigOp(20 << 10), bigOp(10)}
		if _, err = db.Commit(ctx, ops); err != nil {
			refused = ops
			break
		}
		kept += len(ops)
	}
	if !errors.Is(err, persistence.ErrUnavailable) {
		t.Fatalf("commit on a full disk: %v", err)
	}
	for range 3 { // stays so, and stays honest
		if err := db.Ping(ctx); err == nil {
			break // a ping may be small enough to fit
		} else if !errors.Is(err, persistence.ErrUnavailable) {
			t.Fatalf("ping on a full disk: %v", err)
		}
	}
	for _, op := range refused {
		if _, err := db.Task(ctx, "", op.Insert.Task.ID); !errors.Is(err, persistence.ErrNotFound) {
			t.Errorf("task of the refused batch: %v", err)
		}
		if op.Events[0].Seq != 0 {
			t.Errorf("event of the refused batch has seq %d", op.Events[0].Seq)
		}
	}
	makeRoom()
	if _, err := db.Commit(ctx, refused); err != nil {
		t.Fatalf("commit with room again: %v", err)
	}
	if n, err := storetest.Count(ctx, db, persistence.TaskFilter{}); err != nil || n != kept+len(refused) {
		t.Errorf("%d tasks, %v, want %d", n, err, kept+len(refused))
	}
	if seq, err := db.LastSeq(ctx); err != nil || seq != int64(kept+len(refused)) {
		t.Errorf("last seq %d, %v, want %d", seq, err, kept+len(refused))
	}
	if got := refused[2].Events[0].Seq; got != int64(kept+len(refused)) {
		t.Errorf("event seq %d, want %d", got, kept+len(refused))
	}
}

// TestDatabaseFull fills the database up to SQLite's own page limit.
func TestDatabaseFull(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	limit := func(pages int64) {
		err := db.w.transact(t.Context(), func(c *conn) error {
			_, err := c.one(`PRAGMA max_page_count(` + itoa(pages) + `)`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	limit(200)
	checkRefused(t, db, func() { limit(1 << 30) })
}

// TestDiskFull fills a small file system for real. Mounting one takes root;
// without it TestDatabaseFull covers the same path.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: no file system of our own to fill")
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Logf("this machine lets nobody mount a tmpfs: %v", err)
		return
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	db := openTest(t, Config{Dir: dir, WALBytes: 1 << 30})
	defer closeDB(t, db)
	checkRefused(t, db, func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	})
}

// TestWriterLost breaks the writer's connection inside a batch.
func TestWriterLost(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	fence, err := db.Take(t.Context(), messages.ShardScope, "1", "n")
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, db, []persistence.Op{bigOp(10)})
	cause := errors.New("torn")
	lost := db.w.conn
	err = db.w.transact(t.Context(), func(c *conn) error {
		c.stmts[stCounters].query = deadStmt{}
		return errors.Join(cause, c.text(`DELETE FROM tasks`))
	})
	if !errors.Is(err, persistence.ErrUnavailable) || !errors.Is(err, cause) {
		t.Fatalf("error %v", err)
	}
	if db.w.conn == lost {
		t.Fatal("a connection that cannot be read is still in use")
	}
	if n, err := storetest.Count(t.Context(), db, persistence.TaskFilter{}); err != nil || n != 1 {
		t.Fatalf("%d tasks, %v", n, err)
	}
	op := bigOp(10)
	op.Fences = []messages.Fence{fence} // ownership outlives the connection
	mustCommit(t, db, []persistence.Op{op})
	if op.Events[0].Seq != 2 {
		t.Errorf("seq %d", op.Events[0].Seq)
	}
}

// deadStmt fails as a statement of a lost connection does.
type deadStmt struct{}

func (deadStmt) QueryContext(context.Context, []driver.NamedValue) (driver.Rows, error) {
	return nil, errors.New("disk I/O error")
}

// TestCommitUnknown loses the connection at the very COMMIT that took place.
func TestCommitUnknown(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	err := db.w.transact(t.Context(), func(c *conn) error {
		if _, err := c.run(stCount, db.w.batch+1, db.w.seq, db.w.drift); err != nil {
			return err
		}
		c.stmts[stCounters].query = deadStmt{}
		_, err := c.run(stCommit)
		return err
	})
	if err != nil {
		t.Errorf("a batch that was kept is reported as %v", err)
	}
	mustCommit(t, db, []persistence.Op{bigOp(10)})
}

// TestReopenedByCommit has the writer without a connection and with numbers
// that are behind the database, as after a COMMIT whose fate could not be read.
func TestReopenedByCommit(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	mustCommit(t, db, []persistence.Op{bigOp(10), bigOp(10)})
	if err := db.w.conn.close(); err != nil {
		t.Fatal(err)
	}
	db.w.conn, db.w.seq, db.w.batch = nil, 0, 1
	op := bigOp(10)
	mustCommit(t, db, []persistence.Op{op})
	if op.Events[0].Seq != 3 {
		t.Errorf("seq %d", op.Events[0].Seq)
	}
}

// TestCommitKeptAfterAll has COMMIT report an error although it took place.
func TestCommitKeptAfterAll(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	err := db.w.transact(t.Context(), func(c *conn) error {
		// The batch's own commit will fail: there is no transaction any more.
		if _, err := c.run(stCount, db.w.batch+1, db.w.seq, db.w.drift); err != nil {
			return err
		}
		_, err := c.run(stCommit)
		return err
	})
	if err != nil {
		t.Errorf("a batch that was kept is reported as %v", err)
	}
	mustCommit(t, db, []persistence.Op{bigOp(10)})
}

func TestLock(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	_, err := Open(t.Context(), Config{Dir: db.cfg.Dir})
	var locked *LockedError
	if !errors.As(err, &locked) || !strings.Contains(err.Error(), "process "+itoa(int64(os.Getpid()))) || !strings.Contains(err.Error(), "--data") {
		t.Errorf("second open: %v", err)
	}
	if _, err := Migrate(t.Context(), db.cfg.Dir, Up, 0, true); !errors.As(err, &locked) {
		t.Errorf("migrate beside a running store: %v", err)
	}
	// Another process is kept out too.
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), chaosDir+"="+db.cfg.Dir)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "in use by process") {
		t.Errorf("second process: %v, %s", err, out)
	}
	// A child that is forked at this moment keeps the descriptor for a while.
	child, err := unix.Dup(int(db.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(child)
	closeDB(t, db)
	closeDB(t, db) // twice is fine
	if _, err := db.Commit(t.Context(), nil); err == nil {
		t.Error("commit on a closed store")
	}
	closeDB(t, openTest(t, Config{Dir: db.cfg.Dir}))
}

func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a b?c#d%20")
	db := openTest(t, Config{Dir: dir})
	defer closeDB(t, db)
	mustCommit(t, db, []persistence.Op{bigOp(10)})
	list, err := os.ReadDir(dir)
	if err != nil || len(list) < 4 {
		t.Fatalf("files %v, %v", list, err)
	}
	for _, f := range list {
		info, err := f.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	db := openTest(t, Config{Registerer: reg, Logger: slog.New(slog.DiscardHandler)})
	op := bigOp(10)
	op.Fences = []messages.Fence{{Scope: messages.ShardScope, Key: "1", Owner: "n", Epoch: 1}}
	if _, err := db.Commit(context.Background(), []persistence.Op{op, bigOp(10)}); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(db.metrics.Fenced); n != 1 {
		t.Errorf("dash_fenced_writes_total %v", n)
	}
	for _, name := range []string{"dash_store_commit_seconds", "dash_store_batch_size", "dash_store_size_bytes", "dash_store_wal_bytes",
		"dash_store_errors_total", "dash_store_checkpoint_seconds", "dash_fenced_writes_total"} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n != 1 {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	closeDB(t, db)
	if left, err := reg.Gather(); err != nil || len(left) != 0 {
		t.Errorf("%d metrics left after close, %v", len(left), err)
	}
}

func walSize(t testing.TB, db *DB) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(db.cfg.Dir, FileName+"-wal"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
