package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/sqlite"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// longTasks puts n tasks with texts of the largest size into a session.
func longTasks(t *testing.T, s persistence.Store, n int) (last string) {
	t.Helper()
	now := messages.Now()
	session := messages.Session{ID: "long", Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, State: messages.SessionIdle, CreatedAt: now, UpdatedAt: now}
	if out, err := s.Commit(t.Context(), []persistence.Op{{Session: &persistence.SessionWrite{Session: session, FromGeneration: -1}}}); err != nil || out[0].Status != persistence.OK {
		t.Fatalf("put a session: %v %v", out, err)
	}
	// Half of it is longer in JSON.
	text := strings.Repeat("a\nb\x01", 1<<20)
	for range n {
		a := messages.Task{
			ID: messages.NewID(), Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, Class: messages.Low, Session: "long", State: messages.Queued, CreatedAt: messages.Now(),
			Spec: &messages.TaskSpec{Message: text[:256<<10], TimeoutSeconds: 1, MaxAttempts: 1, OnUnknown: string(messages.Requeue)},
		}
		end := a
		end.State, end.FinishedAt, end.Result = messages.Succeeded, messages.Now(), &messages.TaskResult{Text: text}
		out, err := s.Commit(t.Context(), []persistence.Op{
			{Insert: &persistence.TaskInsert{Task: a}, Events: []*messages.Event{a.Event(0, messages.Now(), "")}},
			{Update: &persistence.TaskUpdate{Task: end, From: messages.Queued}, Events: []*messages.Event{end.Event(messages.Queued, messages.Now(), "")}},
		})
		if err != nil || out[0].Status != persistence.OK || out[1].Status != persistence.OK {
			t.Fatalf("put a long task: %v %v", out, err)
		}
		last = a.ID
	}
	return last
}

// memoryOf is what a process takes, and took at most since resetPeak, in bytes.
func memoryOf(t *testing.T, pid int) (now, peak int64) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]*int64{"VmRSS:": &now, "VmHWM:": &peak} {
		_, rest, _ := strings.Cut(string(raw), name)
		if _, err := fmt.Sscan(rest, v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		*v <<= 10
	}
	return now, peak
}

func resetPeak(t *testing.T, pid int) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Skipf("the peak of a process cannot be measured here: %v", err)
	}
}

// fetch reads an answer to its end, a stream that has none for a while.
func (n *drillNode) fetch(ctx context.Context, path string) (status int, retry string, size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if strings.HasPrefix(path, "/events") {
		ctx, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/api/v1"+path, nil)
	if err != nil {
		return 0, "", 0, err
	}
	req.Header.Set("Authorization", "Bearer "+n.key)
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", 0, err
	}
	defer resp.Body.Close()
	size, err = io.Copy(io.Discard, resp.Body)
	if errors.Is(err, context.DeadlineExceeded) && strings.HasPrefix(path, "/events") {
		err = nil
	}
	return resp.StatusCode, resp.Header.Get("Retry-After"), size, err
}

// TestLongAnswersTakeLittleMemory: with texts of the largest size no request takes
// more than 64 MiB of memory, and many at once no more than 512 MiB; who has to
// wait too long is told when to come back.
// DASH_LONG_PAGES=200 puts in more tasks, DASH_LONG_STORE=postgres takes another store.
func TestLongAnswersTakeLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a gigabyte of answers")
	}
	count := 16
	if v := os.Getenv("DASH_LONG_PAGES"); v != "" {
		if _, err := fmt.Sscan(v, &count); err != nil {
			t.Fatal(err)
		}
	}
	data := t.TempDir()
	p, last := place{}, ""
	if os.Getenv("DASH_LONG_STORE") == "postgres" {
		url := testserver.Postgres(t).Database(t)
		p.flags = []string{"--store", "postgres", "--postgres-url", url}
	} else {
		db, err := sqlite.Open(t.Context(), sqlite.Config{Dir: data})
		if err != nil {
			t.Fatal(err)
		}
		last = longTasks(t, db, count)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	n := serveDrill(t, data, filepath.Join(t.TempDir(), "admin.key"), p)
	defer n.end(t)
	if len(p.flags) > 0 {
		db, err := postgres.Open(t.Context(), postgres.Config{URL: messages.Secret(p.flags[3]), StatementTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		last = longTasks(t, db, count)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	paths := []string{
		"/tasks?limit=1000", "/tasks?limit=1000&include=bodies", "/tasks?limit=1000&include=bodies&session=long", "/tasks/" + last, "/tasks/" + last + "?wait_seconds=1",
		"/sessions/long/transcript?limit=1000", "/tasks/" + last + "/events", "/events?since=0", "/sessions?limit=1000", "/gateways?limit=1000", "/audit?limit=1000", "/queue", "/pools", "/keys",
	}
	pid := n.cmd.Process.Pid
	for _, path := range []string{"/tasks?limit=1", "/events?since=0", "/queue"} { // what a first request sets up
		if status, _, _, err := n.fetch(t.Context(), path); status != 200 || err != nil {
			t.Fatalf("%s: %d %v", path, status, err)
		}
	}
	for _, path := range paths {
		resetPeak(t, pid)
		before, _ := memoryOf(t, pid)
		status, _, size, err := n.fetch(t.Context(), path)
		_, peak := memoryOf(t, pid)
		t.Logf("%-70s %d, %9d bytes, +%d MiB", path, status, size, (peak-before)>>20)
		if status != 200 || err != nil {
			t.Errorf("%s: %d %v", path, status, err)
		}
		if peak-before > raceFactor*64<<20 {
			t.Errorf("%s takes %d MiB", path, (peak-before)>>20)
		}
	}
	for _, path := range []string{paths[1], paths[3], paths[5], paths[6], paths[0]} {
		resetPeak(t, pid)
		before, _ := memoryOf(t, pid)
		counts := n.atOnce(t, path, manyAtOnce)
		_, peak := memoryOf(t, pid)
		t.Logf("%d x %-66s %v, +%d MiB", manyAtOnce, path, counts, (peak-before)>>20)
		if peak-before > raceFactor*512<<20 {
			t.Errorf("%d of %s take %d MiB", manyAtOnce, path, (peak-before)>>20)
		}
	}
}

// atOnce makes many requests at once; each is answered in full, or refused with 503
// and the time to come back. It counts the answers by their status.
func (n *drillNode) atOnce(t *testing.T, path string, many int) map[int]int {
	t.Helper()
	var mu sync.Mutex
	var wrong bytes.Buffer
	counts := map[int]int{}
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			status, retry, _, err := n.fetch(t.Context(), path)
			mu.Lock()
			defer mu.Unlock()
			counts[status]++
			if err != nil || status != http.StatusOK && (status != http.StatusServiceUnavailable || retry == "") {
				fmt.Fprintf(&wrong, "%s: %d, Retry-After %q, %v\n", path, status, retry, err)
			}
		})
	}
	wg.Wait()
	if wrong.Len() > 0 {
		t.Error(wrong.String())
	}
	return counts
}
