package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dash-fleet/dash/persistence/testserver"
)

// place is a store as flags of dash.
type place struct{ flags []string }

// TestRestoreDrill: a backup made while clients submit, restored into a new
// store, has every task that was answered before the backup began, in the same
// state or further, and a node goes on with them.
func TestRestoreDrill(t *testing.T) {
	t.Parallel()
	for engine, places := range drillEngines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			from, to := places(t)
			drill(t, from, to)
		})
	}
}

// drillEngines makes two empty stores of each engine.
var drillEngines = map[string]func(t *testing.T) (from, to place){
	"sqlite": func(*testing.T) (from, to place) { return place{}, place{} },
	"postgres": func(t *testing.T) (from, to place) {
		database := func() place {
			return place{[]string{"--store", "postgres", "--postgres-url", testserver.Postgres(t).Database(t)}}
		}
		return database(), database()
	},
	"redis": func(t *testing.T) (from, to place) {
		store := func() place {
			return place{[]string{"--store", "redis", "--postgres-url", testserver.Postgres(t).Database(t), "--redis-url", testserver.Redis(t).Database(t)}}
		}
		return store(), store()
	},
}

// TestMigrateAtOnce: of three processes that start at once on one database one
// migrates it, and the others find that done.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := testserver.Postgres(t).Database(t)
	var wg sync.WaitGroup
	steps := make([][]step, 3)
	for i := range steps {
		wg.Go(func() {
			var out bytes.Buffer
			cmd := drillCommand(t.Context(), t, "migrate", "up", "--store", "postgres", "--postgres-url", url, "-o", "json")
			cmd.Stdout = &out
			if err := cmd.Run(); err != nil {
				t.Errorf("migrate: %v", err)
			} else if err := json.Unmarshal(out.Bytes(), &steps[i]); err != nil {
				t.Errorf("migrate printed %s: %v", out.String(), err)
			}
		})
	}
	wg.Wait()
	all := slices.Concat(steps...)
	seen := map[int64]bool{}
	for _, s := range all {
		if seen[s.Version] {
			t.Errorf("version %d was applied twice", s.Version)
		}
		seen[s.Version] = true
	}
	if len(all) == 0 {
		t.Error("nobody migrated the database")
	}
	status := dashDrill(t, "migrate", "status", "--store", "postgres", "--postgres-url", url)
	if strings.Contains(status, "pending") {
		t.Errorf("after three migrations:\n%s", status)
	}
}

// drillTasks is how many tasks are answered before the backup begins.
const drillTasks = 100

func drill(t *testing.T, from, to place) {
	dir := t.TempDir()
	first := serveDrill(t, filepath.Join(dir, "first"), "", from)
	c := &clients{node: first, answered: map[string]drillTask{}}
	stop := c.start(t, 6)
	c.waitFor(t, drillTasks)
	before := c.snapshot()
	archive := filepath.Join(dir, "archive")
	dashDrill(t, append([]string{"backup", archive, "--data", filepath.Join(dir, "first")}, from.flags...)...)
	c.waitFor(t, len(before)+drillTasks/3) // the load goes on behind the backup
	stop()
	seen := first.tasks(t)
	first.end(t)

	out := dashDrill(t, append([]string{"restore", archive, "--data", filepath.Join(dir, "second"), "-o", "json"}, to.flags...)...)
	if !strings.Contains(out, `"section": "tasks"`) {
		t.Errorf("restore printed %s", out)
	}
	second := serveDrill(t, filepath.Join(dir, "second"), first.keyFile, to)
	restored := second.tasks(t)
	for id, was := range before {
		now, there := restored[id]
		switch {
		case !there:
			t.Errorf("task %s was answered before the backup and is gone", id)
		case now.Input.Message != was.Input.Message:
			t.Errorf("task %s was %q and is %q", id, was.Input.Message, now.Input.Message)
		case drillRank(now.State) < drillRank(was.State), drillRank(was.State) == 3 && now.State != was.State:
			t.Errorf("task %s was %s and is %s", id, was.State, now.State)
		case now.State == "succeeded" && seen[id].State == "succeeded" && now.Attempt == seen[id].Attempt && now.Result.Text != seen[id].Result.Text:
			t.Errorf("the result of task %s was %q and is %q", id, seen[id].Result.Text, now.Result.Text)
		}
	}
	second.settle(t, before)
	second.end(t)
}

// drillTask is what the drill reads of a task.
type drillTask struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Attempt int    `json:"attempt"`
	Input   struct {
		Message string `json:"message"`
	} `json:"input"`
	Result struct {
		Text string `json:"text"`
	} `json:"result"`
}

// drillRank orders states by how far a task has come; 3 is an end.
func drillRank(state string) int {
	switch state {
	case "succeeded", "dead_letter", "cancelled", "expired":
		return 3
	case "queued", "scheduled":
		return 0
	case "claimed":
		return 1
	}
	return 2
}

// clients submit all the time.
type clients struct {
	node *drillNode

	mu       sync.Mutex
	answered map[string]drillTask
}

// start begins n clients; the returned func ends them.
func (c *clients) start(t *testing.T, n int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				body := fmt.Sprintf(`{"priority":"high","session":"s-%d-%d","input":{"message":"task %d of client %d"}}`, i, j%20, j, i)
				var task drillTask
				code, err := c.node.call(ctx, http.MethodPost, "/api/v1/tasks", body, &task)
				switch {
				case ctx.Err() != nil:
				case err != nil || code != http.StatusAccepted && code != http.StatusTooManyRequests:
					t.Errorf("submit: %d %v", code, err)
					return
				case code == http.StatusAccepted:
					c.mu.Lock()
					c.answered[task.ID] = task
					c.mu.Unlock()
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

func (c *clients) snapshot() map[string]drillTask {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]drillTask, len(c.answered))
	for id, task := range c.answered {
		out[id] = task
	}
	return out
}

func (c *clients) waitFor(t *testing.T, n int) {
	t.Helper()
	drillUntil(t, fmt.Sprintf("%d tasks are answered", n), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.answered) >= n
	})
}

// drillUntil waits for what another process does.
func drillUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s until %s", patience, what)
		}
	}
}

// drillNode is a process that runs `dash serve`.
type drillNode struct {
	cmd          *exec.Cmd
	url, keyFile string
	key          string
	output       chan string
}

var drillReady = regexp.MustCompile(`ready at (http\S+)`)

// drillCommand runs this test binary as dash; see TestMain.
func drillCommand(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = append([]string{"dash"}, args...)
	// One file for all nodes, so that archives of each are trusted by the others.
	keys, err := filepath.Abs("testdata/secret.keys")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "DASH_SECRET_KEY_FILE=" + keys}
	return cmd
}

func serveDrill(t *testing.T, data, keyFile string, p place) *drillNode {
	t.Helper()
	if keyFile == "" {
		keyFile = filepath.Join(data, "admin.key")
	}
	args := append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--sim-gateways", "20", "--log-level", "warn", "--admin-key-file", keyFile}, p.flags...)
	n := &drillNode{cmd: drillCommand(context.WithoutCancel(t.Context()), t, args...), keyFile: keyFile, output: make(chan string, 1)}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	n.cmd.Stdout, n.cmd.Stderr = write, write
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endDaemons(t, data) })
	t.Cleanup(func() {
		_ = n.cmd.Process.Kill() // fails when it was ended as it should be
		if out := <-n.output; t.Failed() && out != "" {
			t.Logf("what the node at %s said:\n%s", n.url, out)
		}
	})
	_ = write.Close()
	found := make(chan string, 1)
	go func() {
		defer close(n.output) // whoever asks again gets nothing
		n.output <- watchOutput(read, drillReady, found)
	}()
	url, ok := <-found
	if !ok {
		t.Fatalf("the node did not start:\n%s", <-n.output)
	}
	n.url = url
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	n.key = strings.TrimSpace(string(key))
	return n
}

// end stops the node as an operator does.
// endDaemons ends the gateways that a node started and left to its next start.
func endDaemons(t *testing.T, data string) {
	t.Helper()
	records, err := filepath.Glob(filepath.Join(data, "gateways", "*", "launch.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range records {
		var r struct {
			PID      int    `json:"pid"`
			LaunchID string `json:"launch_id"`
		}
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err != nil {
			t.Errorf("a daemon may be left behind: %v", err)
			continue
		}
		// A process that has ended, or another with its number, does not carry the id.
		if env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", r.PID)); r.LaunchID == "" || !bytes.Contains(env, []byte(r.LaunchID)) {
			continue
		}
		if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
			t.Errorf("a daemon is left behind: %v", err)
		}
	}
}

func (n *drillNode) end(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	out := <-n.output
	if err := n.cmd.Wait(); err != nil {
		t.Fatalf("the node ended with %v:\n%s", err, out)
	}
}

func (n *drillNode) call(ctx context.Context, method, path, body string, to any) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.url+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+n.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= http.StatusBadRequest {
		return resp.StatusCode, err
	}
	return resp.StatusCode, json.Unmarshal(raw, to)
}

// tasks reads all tasks page by page.
func (n *drillNode) tasks(t *testing.T) map[string]drillTask {
	t.Helper()
	all := map[string]drillTask{}
	for path := "/api/v1/tasks?include=bodies&limit=100"; ; {
		var page struct {
			Items []drillTask `json:"items"`
			Next  string      `json:"next_cursor"`
		}
		code, err := n.call(t.Context(), http.MethodGet, path, "", &page)
		if err != nil || code != http.StatusOK {
			t.Fatalf("list tasks: %d %v", code, err)
		}
		for _, task := range page.Items {
			all[task.ID] = task
		}
		if page.Next == "" {
			return all
		}
		path = "/api/v1/tasks?include=bodies&limit=100&cursor=" + page.Next
	}
}

// settle waits until the tasks have ended, and well: the node goes on with what
// was restored.
func (n *drillNode) settle(t *testing.T, tasks map[string]drillTask) {
	t.Helper()
	var now map[string]drillTask
	drillUntil(t, "the tasks of before the backup have ended", func() bool {
		now = n.tasks(t)
		for id := range tasks {
			if drillRank(now[id].State) < 3 {
				return false
			}
		}
		return true
	})
	for id := range tasks {
		if now[id].State != "succeeded" {
			t.Errorf("task %s ended as %s", id, now[id].State)
		}
	}
}

// dashDrill runs a command that must succeed and returns its stdout.
func dashDrill(t *testing.T, args ...string) string {
	t.Helper()
	cmd := drillCommand(t.Context(), t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("dash %s: %v\n%s", strings.Join(slices.Clone(args[:1]), " "), err, errs.String())
	}
	return out.String()
}
