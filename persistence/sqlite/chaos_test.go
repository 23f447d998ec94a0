package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// chaosDir makes the test binary a writer that commits until it is killed.
const chaosDir = "DASH_STORE_CHAOS_DIR"

// chaosChild commits batches and prints an acknowledgement after each:
// "<seq of its last event> <task id>...". It says whether it was one.
func chaosChild() bool {
	dir := os.Getenv(chaosDir)
	if dir == "" {
		return false
	}
	if err := chaosWrite(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func chaosWrite(dir string) error {
	ctx := context.Background()
	db, err := Open(ctx, Config{Dir: dir, WALBytes: 1 << 20})
	if err != nil {
		return err
	}
	fence, err := db.Take(ctx, messages.ShardScope, "1", "child-"+strconv.Itoa(os.Getpid()))
	if err != nil {
		return err
	}
	fmt.Printf("epoch %d\n", fence.Epoch)
	for {
		ack, err := chaosBatch(ctx, db, fence)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.WriteString(ack); err != nil {
			return err
		}
	}
}

// chaosBatch takes a few tasks through claim and end and reports the last commit.
func chaosBatch(ctx context.Context, db *DB, fence messages.Fence) (string, error) {
	tasks := make([]messages.Task, 1+rand.IntN(20))
	ack := strings.Builder{}
	for step := range 3 {
		ops := make([]persistence.Op, len(tasks))
		for i := range tasks {
			t, from := &tasks[i], tasks[i].State
			op := persistence.Op{Fences: []messages.Fence{fence}}
			switch step {
			case 0:
				*t = messages.Task{ID: messages.NewID(), Tenant: "default", Pool: "default", Seq: 1, State: messages.Queued, CreatedAt: messages.Now(),
					Spec: &messages.TaskSpec{Message: strings.Repeat("x", rand.IntN(3000)), Labels: map[string]string{"a": "b"}}}
				op.Insert = &persistence.TaskInsert{Task: *t, IdemKey: t.ID, IdemHash: []byte("h")}
			case 1:
				t.State, t.Claim, t.Gateway = messages.Claimed, 1, "gw"
				op.Update = &persistence.TaskUpdate{Task: *t, From: from}
			case 2:
				t.State, t.FinishedAt, t.Result = messages.Succeeded, messages.Now(), &messages.TaskResult{Text: t.ID}
				op.Update = &persistence.TaskUpdate{Task: *t, From: from, FromClaim: 1}
			}
			op.Events = []*messages.Event{t.Event(from, time.Now(), "")}
			ops[i] = op
		}
		out, err := db.Commit(ctx, ops)
		if err != nil {
			return "", err
		}
		ack.WriteString(tasks[0].State.String() + " " + strconv.FormatInt(ops[len(ops)-1].Events[0].Seq, 10))
		for i, o := range out {
			if o.Status != persistence.OK {
				return "", fmt.Errorf("op %d: %v", i, o.Status)
			}
			ack.WriteString(" " + tasks[i].ID)
		}
		ack.WriteString("\n")
		if _, err := os.Stdout.WriteString(ack.String()); err != nil {
			return "", err
		}
		ack.Reset()
	}
	return "", nil
}

// TestKillNine kills a writer at random moments. Whatever it acknowledged must
// be there afterwards, the log must be whole, and the epoch must grow.
func TestKillNine(t *testing.T) {
	t.Parallel()
	rounds := 3
	if s := os.Getenv("DASH_CHAOS_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("DASH_CHAOS_ROUNDS: %v", err)
		}
		rounds = n
	}
	dir := t.TempDir()
	acked := map[string]messages.TaskState{}
	var seq, epoch int64
	for round := range rounds {
		lines := killRound(t, dir)
		for _, line := range lines {
			f := strings.Fields(line)
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
			if f[0] == "epoch" {
				if n <= epoch {
					t.Fatalf("epoch %d after %d", n, epoch)
				}
				epoch = n
				continue
			}
			state, err := messages.ParseTaskState(f[0])
			if err != nil {
				t.Fatal(err)
			}
			seq = n
			for _, id := range f[2:] {
				acked[id] = state
			}
		}
		checkAfterKill(t, dir, acked, seq)
		t.Logf("round %d: %d tasks acknowledged so far, seq %d", round+1, len(acked), seq)
	}
	if len(acked) == 0 {
		t.Fatal("no round lived long enough to acknowledge anything")
	}
}

// killRound runs a writer until it has acknowledged a random number of
// batches, lets it go on for a moment, kills it, and returns its whole lines.
func killRound(t *testing.T, dir string) []string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), chaosDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	r := bufio.NewReader(out)
	for left := 2 + rand.IntN(300); ; left-- {
		if left == 0 {
			// The kill lands at a random point of the commits under way.
			time.AfterFunc(rand.N(3*time.Millisecond), func() {
				if err := cmd.Process.Kill(); err != nil {
					t.Errorf("kill: %v", err)
				}
			})
		}
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	return lines
}

func checkAfterKill(t *testing.T, dir string, acked map[string]messages.TaskState, seq int64) {
	t.Helper()
	db := openTest(t, Config{Dir: dir})
	defer func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	for id, state := range acked {
		got, err := db.Task(t.Context(), "default", id)
		if err != nil {
			t.Fatalf("acknowledged task %s is lost: %v", id, err)
		}
		// It may be one step further than the last acknowledgement.
		if got.State < state {
			t.Fatalf("task %s is %v, acknowledged as %v", id, got.State, state)
		}
	}
	last, err := db.LastSeq(t.Context())
	if err != nil || last < seq {
		t.Fatalf("last seq %d, %v, acknowledged %d", last, err, seq)
	}
	for since := int64(0); since < last; {
		list, _, err := db.Events(t.Context(), since, 5000)
		if err != nil || len(list) == 0 {
			t.Fatalf("log ends at %d of %d, %v", since, last, err)
		}
		for _, e := range list {
			if e.Seq != since+1 {
				t.Fatalf("seq %d follows %d", e.Seq, since)
			}
			since = e.Seq
		}
	}
}
