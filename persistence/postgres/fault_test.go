package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/storetest"
	"github.com/jackc/pgx/v5"
)

// rounds is how often each fault is injected: DASH_CHAOS_ROUNDS, or two.
func rounds(t testing.TB) int {
	t.Helper()
	s := os.Getenv("DASH_CHAOS_ROUNDS")
	if s == "" {
		return 2
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("DASH_CHAOS_ROUNDS is %q: give a number of rounds", s)
	}
	return n
}

func newOp() persistence.Op {
	t := messages.Task{ID: messages.NewID(), Tenant: "default", Pool: "default", Class: messages.High, Seq: 1, State: messages.Queued, CreatedAt: messages.Now()}
	return persistence.Op{Insert: &persistence.TaskInsert{Task: t}, Events: []*messages.Event{t.Event(0, t.CreatedAt, "")}}
}

// claimOf is the op that claims the task of an insert.
func claimOf(op *persistence.Op) persistence.Op {
	t := op.Insert.Task
	t.State, t.Claim, t.Gateway = messages.Claimed, 1, "gw"
	return persistence.Op{Update: &persistence.TaskUpdate{Task: t, From: messages.Queued}, Events: []*messages.Event{t.Event(messages.Queued, t.CreatedAt, "")}}
}

// ledger is what the store has answered with OK.
type ledger struct {
	t     *testing.T
	db    *DB
	tasks map[string]messages.TaskState
	seqs  map[int64]string
}

func newLedger(t *testing.T, db *DB) *ledger {
	return &ledger{t: t, db: db, tasks: map[string]messages.TaskState{}, seqs: map[int64]string{}}
}

func (l *ledger) note(ops []persistence.Op, out []persistence.Outcome) {
	for i, o := range out {
		if o.Status != persistence.OK {
			l.t.Errorf("op %d: %v", i, o.Status)
			continue
		}
		if in := ops[i].Insert; in != nil {
			l.tasks[in.Task.ID] = in.Task.State
		} else {
			l.tasks[ops[i].Update.Task.ID] = ops[i].Update.Task.State
		}
		for _, e := range ops[i].Events {
			if l.seqs[e.Seq] != "" {
				l.t.Errorf("seq %d was given twice", e.Seq)
			}
			l.seqs[e.Seq] = e.Subject
		}
	}
}

// check compares with the database: nothing lost, nothing twice, no hole in the log.
func (l *ledger) check() {
	l.t.Helper()
	ctx := l.t.Context()
	n, err := storetest.Count(ctx, l.db, persistence.TaskFilter{})
	if err != nil || n != len(l.tasks) {
		l.t.Errorf("%d tasks, %v, want %d", n, err, len(l.tasks))
	}
	for id, state := range l.tasks {
		if got, err := l.db.Task(ctx, "", id); err != nil || got.State != state {
			l.t.Errorf("task %s: %v, %v, want %v", id, got.State, err, state)
		}
	}
	events, _, err := l.db.Events(ctx, 0, 0)
	if err != nil || len(events) != len(l.seqs) {
		l.t.Errorf("%d events, %v, want %d", len(events), err, len(l.seqs))
	}
	for i, e := range events {
		if e.Seq != int64(i+1) || l.seqs[e.Seq] != e.Subject {
			l.t.Errorf("event %d is of %s, want %s at %d", e.Seq, e.Subject, l.seqs[e.Seq], i+1)
		}
	}
}

// TestAnswerLost cuts the connection around a COMMIT: the caller gets the
// outcome all the same, and everything is there once.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	p, cfg := newProxy(t, testConfig(t))
	db := openTest(t, cfg)
	l := newLedger(t, db)
	for range rounds(t) {
		for _, f := range []fault{faultBefore, faultAfter, faultAnswer} {
			ops := []persistence.Op{newOp(), newOp()}
			ops = append(ops, claimOf(&ops[0]))
			p.armed.Store(int32(f))
			out, err := db.Commit(t.Context(), ops)
			if err != nil {
				t.Fatalf("fault %d: %v", f, err)
			}
			l.note(ops, out)
		}
	}
	l.check()
}

// TestAnswerLostOfMisfits loses the answer to a batch of which not all fits.
func TestAnswerLostOfMisfits(t *testing.T) {
	t.Parallel()
	p, cfg := newProxy(t, testConfig(t))
	db := openTest(t, cfg)
	first := newOp()
	first.Insert.IdemKey = "k"
	if _, err := db.Commit(t.Context(), []persistence.Op{first}); err != nil {
		t.Fatal(err)
	}
	for range rounds(t) {
		again, late, fresh := newOp(), claimOf(&first), newOp()
		again.Insert.IdemKey = "k"
		late.Update.FromClaim = 7
		stop := persistence.Op{Cancel: &persistence.CancelRequest{Tenant: "default", Task: first.Insert.Task.ID, At: messages.Now(), Reason: "r"}}
		p.armed.Store(int32(faultAnswer))
		out, err := db.Commit(t.Context(), []persistence.Op{again, late, fresh, stop})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []persistence.Status{persistence.Duplicate, persistence.Conflict, persistence.OK, persistence.OK} {
			if out[i].Status != want || (i != 2 && (out[i].Current == nil || out[i].Current.ID != first.Insert.Task.ID)) {
				t.Errorf("op %d: %+v, want %v", i, out[i], want)
			}
		}
		if again.Events[0].Seq != 0 || fresh.Events[0].Seq == 0 {
			t.Errorf("events %d and %d", again.Events[0].Seq, fresh.Events[0].Seq)
		}
	}
}

// TestUnknown loses the answer and the server with it: the caller learns that
// nothing is known, and the same slice brings the outcome later.
func TestUnknown(t *testing.T) {
	t.Parallel()
	for name, same := range map[string]bool{"same batch": true, "another batch": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, cfg := newProxy(t, testConfig(t))
			db := openTest(t, cfg)
			l := newLedger(t, db)
			kept := 0
			for i := range rounds(t) {
				f := []fault{faultAnswer, faultBefore}[i%2]
				ops := []persistence.Op{newOp(), newOp()}
				p.armed.Store(int32(f))
				p.refuse.Store(true)
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				_, err := db.Commit(ctx, ops)
				cancel()
				if !errors.Is(err, persistence.ErrUnknown) {
					t.Fatalf("fault %d: %v", f, err)
				}
				p.refuse.Store(false)
				if !same { // the old batch comes to its end before the new one
					other := []persistence.Op{newOp()}
					out, err := db.Commit(t.Context(), other)
					if err != nil {
						t.Fatal(err)
					}
					l.note(other, out)
					if f == faultAnswer {
						kept += len(ops)
					}
					if n, err := storetest.Count(t.Context(), db, persistence.TaskFilter{}); err != nil || n != kept+len(l.tasks) {
						t.Fatalf("fault %d: %d tasks, %v, want %d", f, n, err, kept+len(l.tasks))
					}
					continue
				}
				out, err := db.Commit(t.Context(), ops)
				if err != nil {
					t.Fatal(err)
				}
				l.note(ops, out)
			}
			if same {
				l.check()
			}
		})
	}
}

// TestRefusals injects errors of the server into the middle of batches.
func TestRefusals(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	db := openTest(t, cfg)
	conn, err := pgx.Connect(t.Context(), cfg.URL.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	inject := func(code string, times int) {
		t.Helper()
		// A sequence counts also what is rolled back.
		_, err := conn.Exec(t.Context(), fmt.Sprintf(`DROP SEQUENCE IF EXISTS faults; CREATE SEQUENCE faults;
 CREATE OR REPLACE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF nextval('faults') <= %d THEN RAISE EXCEPTION 'injected' USING ERRCODE = '%s'; END IF; RETURN NEW; END $$;
 CREATE OR REPLACE TRIGGER fault BEFORE UPDATE ON counters FOR EACH ROW EXECUTE FUNCTION fault()`, times, code))
		if err != nil {
			t.Fatal(err)
		}
	}
	l := newLedger(t, db)
	for i := range rounds(t) {
		for _, code := range []string{codeSerialization, codeDeadlock} {
			inject(code, 1+i%3)
			ops := []persistence.Op{newOp(), newOp()}
			out, err := db.Commit(t.Context(), ops)
			if err != nil {
				t.Fatalf("%s: %v", code, err)
			}
			l.note(ops, out)
		}
	}
	for _, code := range []string{"53100", "53200", "53300", "57014", "55P03", "25006", "XX001"} {
		inject(code, 1)
		if _, err := db.Commit(t.Context(), []persistence.Op{newOp()}); !errors.Is(err, persistence.ErrUnavailable) {
			t.Errorf("%s: %v", code, err)
		}
	}
	inject(codeSerialization, maxTries+1)
	if _, err := db.Commit(t.Context(), []persistence.Op{newOp()}); !errors.Is(err, persistence.ErrUnavailable) {
		t.Errorf("endless serialization failures: %v", err)
	}
	inject(codeSerialization, 0)
	l.check()
}

// TestBlackHole drops the packets of a connection in mid-batch without a reset.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	p, cfg := newProxy(t, testConfig(t))
	db := openTest(t, cfg)
	l := newLedger(t, db)
	ops := []persistence.Op{newOp()}
	p.armed.Store(int32(faultBlackHole))
	start := time.Now()
	out, err := db.Commit(t.Context(), ops)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("noticed after %v", took)
	}
	l.note(ops, out)
	l.check()
	p.close() // or closing the engine would wait for the hole
}

// TestWhatTheServerNeverTakes: a value that the server refuses for what it is is
// told as such, so that nobody tries it for ever. The next batch is as any other.
func TestWhatTheServerNeverTakes(t *testing.T) {
	t.Parallel()
	db := openTest(t, testConfig(t))
	long := make([]byte, 64<<10) // more than a row of an index holds
	for i := range long {
		long[i] = byte('a' + rand.IntN(26))
	}
	bad, good := newOp(), newOp()
	bad.Insert.Task.Error = &messages.TaskError{Code: string(long)}
	if _, err := db.Commit(t.Context(), []persistence.Op{good, bad}); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("%v, want that it is invalid", err)
	}
	if out, err := db.Commit(t.Context(), []persistence.Op{good}); err != nil || out[0].Status != persistence.OK {
		t.Errorf("after it: %v, %v", out, err)
	}
}
