package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/storetest"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// faulty is a private server with a store and its history under load.
func faulty(t *testing.T) (*testserver.RedisServer, *DB, *memory, *load) {
	t.Helper()
	server := testserver.NewRedis(t, testserver.RedisOptions{})
	history := newMemory()
	db := openTest(t, Config{URL: server.URL(), History: history, DrainEvery: 50 * time.Millisecond})
	t.Cleanup(func() { closeDB(t, db) })
	l := startLoad(t, db)
	t.Cleanup(func() {
		select {
		case <-l.done:
		default:
			l.end()
		}
	})
	return server, db, history, l
}

// TestRestart kills the server and starts it again under load: nothing
// acknowledged is lost and the load goes on by itself.
func TestRestart(t *testing.T) {
	t.Parallel()
	server, db, _, l := faulty(t)
	for i := range rounds(t) {
		l.until(t, 20+rand.IntN(30))
		end := server.Kill
		if i%2 == 1 {
			end = server.Stop
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		l.until(t, 5)
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("served again only after %v", d)
		}
	}
	l.end()
	l.kept(t, db, nil)
	whole(t, db)
	if db.Lost() != nil {
		t.Errorf("a restart counts as a loss: %v", db.Lost())
	}
}

// TestPause stops the server for ten seconds without ending it.
func TestPause(t *testing.T) {
	t.Parallel()
	server, db, _, l := faulty(t)
	for range rounds(t) {
		l.until(t, 20)
		if err := server.Pause(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if _, err := db.Renew(ctx, messages.Node{ID: "n"}, time.Second); err == nil {
			t.Error("renewed at a paused server")
		}
		cancel()
		select {
		case <-time.After(commitBudget): // and so the fault is longer than that
		case <-t.Context().Done():
		}
		if err := server.Resume(); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		l.until(t, 5)
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("served again only after %v", d)
		}
	}
	l.end()
	l.kept(t, db, nil)
	whole(t, db)
	if l.longest > commitBudget+2*time.Second {
		t.Errorf("a commit took %v", l.longest)
	}
}

// lossRound brings data loss about, waits until the load has met it, and recovers.
func lossRound(t *testing.T, db *DB, l *load, lose func()) *Recovery {
	t.Helper()
	l.until(t, 30+rand.IntN(30))
	lose()
	eventually(t, "the loss is noticed", func() bool { return db.Lost() != nil })
	if _, err := db.Commit(t.Context(), []persistence.Op{{Events: []*messages.Event{{}}}}); !errors.Is(err, ErrLostData) || !errors.Is(err, persistence.ErrUnavailable) {
		t.Fatalf("commit after a loss: %v", err)
	}
	if _, err := db.Take(t.Context(), messages.ShardScope, "1", "n"); !errors.Is(err, ErrLostData) {
		t.Fatalf("take after a loss: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := db.Recover(ctx)
	for errors.Is(err, persistence.ErrUnavailable) && ctx.Err() == nil {
		// The client answers with its last failed dial for up to a second after
		// the server is back.
		time.Sleep(100 * time.Millisecond)
		r, err = db.Recover(ctx)
	}
	if err != nil {
		t.Fatalf("recover: %v", err)
	}
	t.Logf("%v; found batch %d, history %d, known %d; %d restored, %d requeued, %d held, %d sessions", r.Loss.Cause, r.FoundBatch, r.HistoryBatch, r.KnownBatch,
		r.Restored, len(r.Requeued), len(r.Held), r.Sessions)
	return r
}

// TestFlushAll empties the server: everything is rebuilt, open tasks are named.
func TestFlushAll(t *testing.T) {
	t.Parallel()
	server, db, history, l := faulty(t)
	again := map[string]bool{}
	fence, err := db.Take(t.Context(), messages.ShardScope, "1", "n")
	if err != nil {
		t.Fatal(err)
	}
	for round := range rounds(t) {
		// Once the history has nothing of the newest batches.
		history.set(round%2 == 1)
		r := lossRound(t, db, l, func() {
			if _, err := server.Do(t.Context(), "FLUSHALL"); err != nil {
				t.Fatal(err)
			}
		})
		history.set(false)
		for id := range named(r) {
			again[id] = true
		}
		next, err := db.Take(t.Context(), messages.ShardScope, "1", "n")
		if err != nil || next.Epoch <= fence.Epoch {
			t.Fatalf("epoch %d after %d, %v", next.Epoch, fence.Epoch, err)
		}
		fence = next
		l.until(t, 3)
	}
	l.end()
	l.kept(t, db, again)
	whole(t, db)
	sessionMovedOn(t, db)
	if err := db.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func sessionMovedOn(t *testing.T, db *DB) {
	t.Helper()
	s, err := db.Session(t.Context(), "default", "s")
	if err != nil || s.Generation < generationGap || !s.Replay {
		t.Errorf("session after the loss: %+v, %v", s, err)
	}
}

// TestTruncated cuts the tail of the append-only file, which the server takes
// for an unfinished write: it starts without it and says nothing.
func TestTruncated(t *testing.T) {
	t.Parallel()
	server, db, _, l := faulty(t)
	again := map[string]bool{}
	for range rounds(t) {
		r := lossRound(t, db, l, func() {
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
			cutTail(t, server, int64(2000+rand.IntN(60_000)))
			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		if r.FoundBatch == 0 || r.FoundBatch >= r.KnownBatch {
			t.Errorf("found batch %d, known %d", r.FoundBatch, r.KnownBatch)
		}
		for id := range named(r) {
			again[id] = true
		}
		l.until(t, 3)
	}
	l.end()
	l.kept(t, db, again)
	whole(t, db)
}

func newestAOF(t *testing.T, server *testserver.RedisServer) string {
	t.Helper()
	files, err := server.AOFFiles()
	if err != nil || len(files) == 0 {
		t.Fatalf("append-only files: %v, %v", files, err)
	}
	return files[len(files)-1]
}

func cutTail(t *testing.T, server *testserver.RedisServer, n int64) {
	t.Helper()
	path := newestAOF(t, server)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, max(info.Size()-n, info.Size()/2)); err != nil {
		t.Fatal(err)
	}
}

// TestDamaged breaks the append-only file in the middle: the server refuses to
// start and every call says that the store is away. Its operator throws the
// file away; the store is rebuilt.
func TestDamaged(t *testing.T) {
	t.Parallel()
	server, db, _, l := faulty(t)
	again := map[string]bool{}
	for range rounds(t) {
		r := lossRound(t, db, l, func() {
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
			path := newestAOF(t, server)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.Index(b[len(b)/2:], []byte("\r\n*")) + len(b)/2 + 2
			copy(b[at:], "?????")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := server.Start(t.Context()); err == nil {
				t.Fatal("the server started on a damaged file")
			}
			if _, err := Open(t.Context(), db.cfg); !errors.Is(err, persistence.ErrUnavailable) {
				t.Fatalf("open without a server: %v", err)
			}
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		for id := range named(r) {
			again[id] = true
		}
		l.until(t, 3)
	}
	l.end()
	l.kept(t, db, again)
	whole(t, db)
}

// TestCutAnswer loses requests and answers: no batch is applied twice, none is
// acknowledged and missing.
func TestCutAnswer(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	proxy := testserver.NewProxy(t, server.Addr())
	address := server.Database(t)
	through, err := proxy.URL(address)
	if err != nil {
		t.Fatal(err)
	}
	db := openTest(t, Config{URL: through})
	defer closeDB(t, db)
	if err := db.Ping(t.Context()); err != nil { // the script is known from now on
		t.Fatal(err)
	}
	isBatch := func(chunk []byte) bool { return bytes.Contains(chunk, []byte(db.scripts.commit.sha)) }
	n := 5 * rounds(t)
	seq := int64(0)
	for i := range n {
		sprung := proxy.CutOn(isBatch, testserver.Moment(i%3))
		task := messages.Task{ID: messages.NewID(), Tenant: "default", Pool: "default", State: messages.Queued, CreatedAt: messages.Now(), Seq: int64(i)}
		op := persistence.Op{Insert: &persistence.TaskInsert{Task: task}, Events: []*messages.Event{task.Event(0, messages.Now(), "")}}
		taken := persistence.Op{Insert: &persistence.TaskInsert{Task: task}}
		out, err := db.Commit(t.Context(), []persistence.Op{op, taken})
		if err != nil || out[0].Status != persistence.OK || out[1].Status != persistence.Conflict || out[1].Current.ID != task.ID {
			t.Fatalf("round %d: %+v, %v", i, out, err)
		}
		select {
		case <-sprung:
		default:
			t.Fatalf("round %d: nothing was cut", i)
		}
		if seq++; op.Events[0].Seq != seq {
			t.Fatalf("round %d: seq %d, want %d", i, op.Events[0].Seq, seq)
		}
	}
	if got, err := storetest.Count(t.Context(), db, persistence.TaskFilter{}); err != nil || got != n {
		t.Errorf("%d tasks, %v, want %d", got, err, n)
	}
	whole(t, db)
}

// TestUnknownIsSettled has a batch whose answer never comes: ErrUnknown; the
// next one settles it, and the first cannot take effect later.
func TestUnknownIsSettled(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	proxy := testserver.NewProxy(t, server.Addr())
	through, err := proxy.URL(server.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	db := openTest(t, Config{URL: through})
	defer closeDB(t, db)
	db.budget = time.Second
	batches := make([][]persistence.Op, 2)
	for i := range batches {
		task := messages.Task{ID: fmt.Sprint("t", i), Tenant: "default", Pool: "default", State: messages.Queued, CreatedAt: messages.Now()}
		batches[i] = []persistence.Op{{Insert: &persistence.TaskInsert{Task: task}}}
		proxy.BlackHole(true)
		if _, err := db.Commit(t.Context(), batches[i]); !errors.Is(err, persistence.ErrUnknown) {
			t.Fatalf("commit into a black hole: %v", err)
		}
		proxy.BlackHole(false)
		if i == 0 { // the same batch goes on
			if out, err := db.Commit(t.Context(), batches[0]); err != nil || out[0].Status != persistence.OK {
				t.Fatalf("the same batch again: %+v, %v", out, err)
			}
		}
	}
	if err := db.Ping(t.Context()); err != nil { // another batch settles it
		t.Fatal(err)
	}
	before, err := storetest.Count(t.Context(), db, persistence.TaskFilter{})
	if err != nil {
		t.Fatal(err)
	}
	// Whatever is still under way arrives now; it must change nothing.
	proxy.Cut()
	if err := db.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := storetest.Count(t.Context(), db, persistence.TaskFilter{})
	if err != nil || after != before || before < 1 || before > 2 {
		t.Errorf("%d tasks, then %d, %v", before, after, err)
	}
}

// TestNewProcessNotices opens an emptied server: the history's mark tells.
func TestNewProcessNotices(t *testing.T) {
	t.Parallel()
	server, db, history, l := faulty(t)
	l.until(t, 20)
	l.end()
	if err := db.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Do(t.Context(), "FLUSHALL"); err != nil {
		t.Fatal(err)
	}
	cfg := db.cfg
	first, second := openTest(t, cfg), openTest(t, cfg)
	defer closeDB(t, first)
	defer closeDB(t, second)
	for _, db := range []*DB{first, second} {
		if err := db.Ping(t.Context()); !errors.Is(err, ErrLostData) {
			t.Fatalf("ping: %v", err)
		}
	}
	r, err := first.Recover(t.Context())
	if err != nil || r.Adopted {
		t.Fatalf("recover: %+v, %v", r, err)
	}
	if r2, err := second.Recover(t.Context()); err != nil || !r2.Adopted || r2.Dataset != r.Dataset || r2.Restored != 0 {
		t.Fatalf("second recover: %+v, %v", r2, err)
	}
	l.kept(t, second, named(r))
	whole(t, first)
	other := messages.NewID() // a store that is none of ours is left alone
	if _, err := server.Do(t.Context(), "HSET", DefaultPrefix+"meta", "dataset", other, "from", "somewhere"); err != nil {
		t.Fatal(err)
	}
	if err := first.Ping(t.Context()); !errors.Is(err, ErrLostData) {
		t.Fatalf("ping: %v", err)
	}
	if _, err := first.Recover(t.Context()); err == nil || !strings.Contains(err.Error(), other) {
		t.Errorf("recover onto a foreign store: %v", err)
	}
	_ = history
}
