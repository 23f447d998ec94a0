package gateway

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

var update = flag.Bool("update", false, "rewrite testdata/*.txt with what is decided now")

// TestStories plays testdata/*.txt: each line without indentation is an event,
// the indented lines below it are what follows, first of all the new state.
// Review a change of these files as a change of behaviour.
func TestStories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(got, string(want)); diff != "" {
				t.Errorf("it is another story now (-got +want); -update rewrites it:\n%s", diff)
			}
		})
	}
}

func tell(t *testing.T, script string) string {
	t.Helper()
	var out bytes.Buffer
	var s story
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue // what followed when the file was written
		}
		fmt.Fprintln(&out, line)
		if line == "" || line[0] == '#' {
			continue
		}
		event, err := s.event(strings.Fields(line))
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if event == nil {
			continue
		}
		var effects []effect
		s.life, effects = decide(s.life, input{now: s.now, rand: 0.5, facts: s.facts, event: event})
		for _, e := range effects {
			fmt.Fprintln(&out, "  "+describe(e))
		}
	}
	return out.String()
}

type story struct {
	life
	facts
	now time.Time
}

// event reads a line: a verb and its arguments, among them after=, the time
// since the last event, and reason=, words joined by underscores.
func (s *story) event(f []string) (any, error) {
	args := map[string]string{}
	for _, a := range f[1:] {
		k, v, _ := strings.Cut(a, "=")
		args[k] = v
	}
	number := func(k string, otherwise int) int {
		if n, err := strconv.Atoi(args[k]); err == nil {
			return n
		}
		return otherwise
	}
	pause, err := time.ParseDuration(args["after"])
	if args["after"] != "" && err != nil {
		return nil, err
	}
	s.now = s.now.Add(pause)
	has := func(k string) bool { _, ok := args[k]; return ok }
	words := strings.ReplaceAll(args["reason"], "_", " ")
	conn := session.Conn(number("conn", int(s.conn)))
	var failed error
	if has("failed") {
		failed = errors.New(strings.ReplaceAll(args["failed"], "_", " "))
	}
	switch f[0] {
	case "gateway":
		s.begin(has("managed"), has("drained"), args["boot"])
		return nil, nil
	case "facts": // what the rest of the actor knows from now on
		s.held, s.recovering = number("held", s.held), number("recovering", 0)
		s.claims = s.held + number("watched", 0)
		s.tidying, s.reduced = has("tidying"), strings.ReplaceAll(args["reduced"], "_", " ")
		if s.away = ""; has("away") {
			s.away = "its home is " + args["away"]
		}
		return nil, nil
	case "hello":
		return hello{conn: conn, boot: args["boot"]}, nil
	case "refused":
		return refused{conn: conn, reason: words, permanent: has("permanent")}, nil
	case "lost":
		e := linkLost{conn: conn, err: failed}
		if has("announced") {
			e.err = &openclaw.ClosedError{Code: openclaw.CloseRestart}
		}
		return e, nil
	case "settled":
		e := settled{conn: conn, err: failed}
		if has("cold") {
			e.warm = &warmth{err: errors.New("no model")}
		}
		return e, nil
	case "recorded":
		return recorded{conn: conn, err: failed}, nil
	case "reconnect":
		return reconnect{n: number("n", s.attempts)}, nil
	case "started":
		if has("permanent") || has("alive") {
			failed = &StartError{Permanent: has("permanent"), Alive: has("alive"), Reason: failed.Error()}
		}
		return started{endpoint: Endpoint{PID: number("pid", 0), Adopted: has("adopted"), Stale: has("stale")}, err: failed}, nil
	case "exited":
		return exited{pid: number("pid", s.managed.endpoint.PID)}, nil
	case "stopped":
		return stopped{err: failed}, nil
	case "reloaded":
		return reloaded{conn: conn, uptake: ConfigUptake(args["uptake"]), why: words}, nil
	case "configure":
		gw := *s.gw
		if has("config") {
			gw.Managed = &messages.Managed{Config: map[string]any{"c": args["config"]}}
		}
		if has("home") {
			gw.Home = args["home"]
		}
		return Configure{gw}, nil
	}
	event, ok := map[string]any{
		"register": registered{}, "known": known{}, "tick": tick{}, "freed": freed{}, "judged": judged{}, "served": served{},
		"drain": Drain{}, "resume": Resume{}, "restart": Restart{}, "remove": Remove{}, "explained": explained{deaths: number("deaths", 1)},
	}[f[0]]
	if !ok {
		return nil, fmt.Errorf("unknown event %q", f[0])
	}
	return event, nil
}

func (s *story) begin(managed, drained bool, boot string) {
	s.now = time.Unix(1_000_000, 0)
	gw := messages.Gateway{ID: "gw", URL: "ws://h/", Drained: drained}
	if managed {
		gw.Managed = &messages.Managed{}
	}
	s.life = newLife(&Config{Gateway: gw, Timing: Timing{RetryLimit: 3}.withDefaults()}, s.now)
	s.daemon, s.boot = managed, boot
}

func describe(e effect) string {
	switch e := e.(type) {
	case moved:
		s := fmt.Sprintf("%s -> %s (%s)", e.from, e.to, e.event)
		if e.from == 0 {
			s = fmt.Sprintf("%s (%s)", e.to, e.event)
		}
		if e.conn != 0 {
			s += fmt.Sprintf(", with the boot id of %d", e.conn)
		}
		if e.reason != "" {
			s += ": " + e.reason
		}
		return s
	case refusedStep:
		return fmt.Sprintf("refused: no step %q from %s", e.event, e.from)
	case write:
		return fmt.Sprintf("write the boot id of %d", e.conn)
	case announce:
		return "announce: " + e.words
	case demand:
		return "tell the pool"
	case dial:
		return fmt.Sprintf("dial %d", e.conn)
	case retry:
		return fmt.Sprintf("try again after %v (%d)", e.after, e.n)
	case hangUp:
		return "hang up: " + e.why
	case part:
		return fmt.Sprintf("tell sessions that %d is gone", e.conn)
	case settle:
		return fmt.Sprintf("settle, warm-up %v", e.warm)
	case awaitExit:
		return fmt.Sprintf("await the exit of %d", e.pid)
	case give:
		return fmt.Sprintf("give it its configuration, warm-up %v", e.warm)
	case resize:
		return fmt.Sprintf("window with lane %d", e.lane)
	case note:
		return fmt.Sprintf("log %s: %s", strings.ToLower(e.level.String()), e.text)
	}
	return map[effect]string{
		greet{}: "tell sessions of the connection", start{}: "start the process", stop{}: "stop the process", died{}: "count a death",
		forget{}: "forget sub-agents", lift{}: "lift the pauses", sweep{}: "sweep", unwatch{}: "let HELD tasks go", end{}: "end",
	}[e]
}

// TestUnlawfulStepIsRefused: what the table does not have changes nothing.
func TestUnlawfulStepIsRefused(t *testing.T) {
	t.Parallel()
	for state := messages.GatewayRegistered; state <= messages.GatewayRemoved; state++ {
		d := decision{life: life{state: state, reason: "as it was"}}
		taken := d.become("register", "new words", "")
		if want := state == messages.GatewayRegistered; taken != want {
			t.Errorf("%s: taken %v, want %v", state, taken, want)
		}
		if d.state != state || !taken && (d.reason != "as it was" || len(d.effects) != 1 || d.effects[0] != effect(refusedStep{from: state, event: "register"})) {
			t.Errorf("%s: became %s (%s), effects %v", state, d.state, d.reason, d.effects)
		}
	}
}
