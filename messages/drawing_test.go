package messages

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "draw the state tables in DESIGN.md anew")

const (
	drawBegin = "<!-- drawn from transitions.go; go test ./messages -update -->\n"
	drawEnd   = "<!-- end of the drawing -->\n"
)

// draw renders a table as a mermaid state diagram, one line per row.
func draw[S interface {
	comparable
	fmt.Stringer
}](title string, table []Transition[S]) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n```mermaid\nstateDiagram-v2\n", title)
	var none S
	for _, t := range table {
		from := "[*]"
		if t.From != none {
			from = t.From.String()
		}
		fmt.Fprintf(&b, "  %s --> %s: %s\n", from, t.To, t.Event)
	}
	b.WriteString("```\n\n")
	return b.String()
}

func drawing() string {
	return draw("Task", TaskTransitions) + draw("Gateway", GatewayTransitions) + draw("Session", SessionTransitions)
}

func TestDesignDrawsTheStateTables(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(raw)
	i, j := strings.Index(doc, drawBegin), strings.Index(doc, drawEnd)
	if i < 0 || j < i {
		t.Fatal("DESIGN.md lost the marks around the drawing")
	}
	i += len(drawBegin)
	if *update {
		if err := os.WriteFile("DESIGN.md", []byte(doc[:i]+drawing()+doc[j:]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(doc[i:j], drawing()); diff != "" {
		t.Errorf("DESIGN.md and transitions.go differ (go test ./messages -update):\n%s", diff)
	}
}

// TestTablesHoldTogether: every state can be reached and, unless terminal,
// left; no row stands twice; no event is ambiguous.
func TestTablesHoldTogether(t *testing.T) {
	t.Parallel()
	checkTable(t, "task", TaskTransitions, Scheduled, Expired, func(s TaskState) bool { return s.Terminal() })
	checkTable(t, "gateway", GatewayTransitions, GatewayRegistered, GatewayRemoved, func(s GatewayState) bool { return s == GatewayRemoved })
	checkTable(t, "session", SessionTransitions, SessionIdle, SessionRemoved, func(s SessionState) bool { return s == SessionRemoved })
}

func checkTable[S interface {
	~uint8
	fmt.Stringer
}](t *testing.T, name string, table []Transition[S], first, last S, terminal func(S) bool) {
	t.Helper()
	type step struct {
		from  S
		event string
	}
	in, out, seen := map[S]bool{}, map[S]bool{}, map[step]bool{}
	for _, r := range table {
		in[r.To], out[r.From] = true, true
		if k := (step{r.From, r.Event}); seen[k] {
			t.Errorf("%s: event %q in state %v stands twice", name, r.Event, r.From)
		} else {
			seen[k] = true
		}
	}
	for s := first; s <= last; s++ {
		if !in[s] {
			t.Errorf("%s: state %v cannot be reached", name, s)
		}
		if !out[s] && !terminal(s) {
			t.Errorf("%s: state %v cannot be left", name, s)
		}
	}
}

func TestLawful(t *testing.T) {
	t.Parallel()
	if !Lawful(TaskTransitions, Queued, Claimed) {
		t.Error("queued -> claimed must be lawful")
	}
	if Lawful(TaskTransitions, Succeeded, Queued) {
		t.Error("succeeded -> queued must not be lawful")
	}
}
