package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestNextStepsRun follows the next steps that are commands: on a real node, in
// the state in which they are advised and with the blanks as they were filled
// there wherever that state can be brought about, and looks at what came of it.
// What no test can follow stands in notFollowed with its reason; a next step
// that is neither followed nor listed is an error.
func TestNextStepsRun(t *testing.T) {
	t.Parallel()
	a := &advised{steps: nextSteps(t), done: map[string]bool{}}
	groups := map[string]func(*testing.T, *advised){"fleet": followFleet, "tasks": followTasks, "stores": followStores, "help": followHelp, "homes": followHomes}
	t.Run("all", func(t *testing.T) {
		for name, follow := range groups {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				follow(t, a)
				a.mu.Lock()
				defer a.mu.Unlock()
				a.groups++
			})
		}
	})
	if a.groups < len(groups) {
		return // some were left out with -run, or failed
	}
	for name, text := range a.steps {
		for i, m := range quoted.FindAllStringSubmatch(text, -1) {
			key := stepAt{name, i}.String()
			reason, listed := notFollowed[key]
			switch {
			case listed && a.done[key]:
				t.Errorf("%s is followed; take it out of notFollowed", key)
			case !listed && !a.done[key]:
				t.Errorf("%s (`%s`) is not followed: run it, or say in notFollowed why not", key, m[1])
			case listed && reason == "":
				t.Errorf("%s: say why", key)
			}
			delete(notFollowed, key)
		}
	}
	for key := range notFollowed {
		t.Errorf("notFollowed has %s, which is no command of the table", key)
	}
}

const (
	noCommand = "it is no command: a header, or a value in a file"
	ofServer  = "it is typed at the user's own server, by its operator"
)

// notFollowed are the texts between backticks that are not run, and why.
var notFollowed = map[string]string{
	"RunAsStoreOwner/0":       "needs sudo, and a second user of the machine",
	"GiveAgeKey/0":            "a program of others, age-keygen",
	"SendBearer/0":            noCommand,
	"SendBearerFirstKey/0":    noCommand,
	"SendJSONType/0":          noCommand,
	"SendMatchHeader/0":       noCommand,
	"SendMatchHeader/1":       noCommand,
	"NameYAML/0":              noCommand,
	"CheckPostgresLogin/0":    ofServer,
	"MakeDatabase/0":          ofServer,
	"SetOnOrAcceptLoss/0":     ofServer,
	"SetOnOrAcceptLoss/1":     ofServer,
	"SetLoggedOrAcceptLoss/0": ofServer,
	"OwnDatabase/0":           ofServer,
	"RaiseMaxMemory/0":        ofServer,
	"RaiseMaxMemory/1":        ofServer,
	"FsyncAlways/0":           ofServer,
	"FsyncAlways/1":           ofServer,
	"NoFsyncOnRewrite/0":      ofServer,
	"NoFsyncOnRewrite/1":      ofServer,
	"NoEviction/0":            ofServer,
	"NoEviction/1":            ofServer,
	"AppendOnly/0":            ofServer,
	"AppendOnly/1":            ofServer,
	"AppendOnly/2":            ofServer,
	"GivePair/0":              ofServer,
	"MoveToOwnPool/0":         "only an earlier release of Dash lets a gateway into a pool of another tenant",
}

// stepAt is the i-th command of a next step.
type stepAt struct {
	name string
	i    int
}

func (s stepAt) String() string { return fmt.Sprintf("%s/%d", s.name, s.i) }

// advised is the table, and what of it was followed.
type advised struct {
	steps map[string]string

	mu     sync.Mutex
	done   map[string]bool
	groups int
}

// find looks for the next step in what was printed and returns its commands,
// with the blanks as they are filled there.
func (a *advised) find(t *testing.T, name, printed string) []string {
	t.Helper()
	text, ok := a.steps[name]
	if !ok {
		t.Fatalf("the table has no %s", name)
	}
	blanks := strings.NewReplacer("%s", "(?:.+?)", "%d", `\d+`)
	var pattern strings.Builder
	for i, part := range strings.Split(text, "`") {
		part = blanks.Replace(regexp.QuoteMeta(part))
		if i%2 == 1 {
			part = "`(" + part + ")`"
		}
		pattern.WriteString(part)
	}
	said := regexp.MustCompile(pattern.String()).FindStringSubmatch(printed)
	if said == nil {
		t.Fatalf("%s is not said: %q in\n%s", name, text, printed)
	}
	return said[1:]
}

// fill is a next step whose state no test can bring about, with its blanks filled.
func (a *advised) fill(name string, blanks ...any) string {
	return fmt.Sprintf(a.steps[name], blanks...)
}

// line is a command as somebody types it who puts his own words in place of the
// capitals, and adds more if the text says so. It counts as followed.
func (a *advised) line(t *testing.T, s stepAt, printed string, swap []string, more ...string) []string {
	t.Helper()
	command, ok := strings.CutPrefix(a.find(t, s.name, printed)[s.i], "dash ")
	if !ok {
		t.Fatalf("%s is no command of dash: %s", s, command)
	}
	words := strings.Fields(strings.NewReplacer(swap...).Replace(command))
	for _, w := range words {
		if capitals.MatchString(w) {
			t.Fatalf("%s: nothing is given for %s", s, w)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.done[s.String()] = true
	return append(words, more...)
}

var capitals = regexp.MustCompile(`^[A-Z]{2,}$|=[A-Z]{2,}$`)

// person types commands to a node.
type person struct {
	*advised
	node  *drillNode
	flags []string // of the node
}

// types runs a command that must end with the exit code.
func (p *person) types(t *testing.T, code int, args ...string) result {
	t.Helper()
	got := p.says(t, args...)
	if got.code != code {
		t.Fatalf("dash %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got.code, code, got.out, got.err)
	}
	return got
}

// says runs a command. Questions are answered with the word that they ask for.
func (p *person) says(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	term := &terminal{in: &answers{asked: &errs}, out: &out, err: &errs, asks: true, environ: []string{"HOME=" + filepath.Dir(p.node.keyFile)}}
	if p.node.url != "" {
		term.environ = append(term.environ, "DASH_URL="+p.node.url)
	}
	if p.node.key != "" {
		term.environ = append(term.environ, "DASH_API_KEY="+p.node.key)
	}
	got := result{code: run(ctx, args, term)}
	got.out, got.err = out.String(), errs.String()
	return got
}

// answers gives the word between quotes that was asked for last.
type answers struct{ asked *bytes.Buffer }

var askedFor = regexp.MustCompile(`Type "([^"]*)" to continue: $`)

func (a *answers) Read(b []byte) (int, error) {
	m := askedFor.FindSubmatch(a.asked.Bytes())
	if m == nil {
		return 0, fmt.Errorf("nothing was asked: %s", a.asked)
	}
	return copy(b, append(m[1], '\n')), nil
}

// follow types the i-th command of a next step that was printed, which must succeed.
func (p *person) follow(t *testing.T, name string, i int, printed string, swap ...string) result {
	t.Helper()
	return p.types(t, exitOK, p.line(t, stepAt{name, i}, printed, swap)...)
}

// until repeats a command until it prints what matches.
func (p *person) until(t *testing.T, pattern string, args ...string) result {
	t.Helper()
	match := regexp.MustCompile(pattern)
	var got result
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		got = p.types(t, exitOK, args...)
		if match.MatchString(got.out) {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("dash %s never printed %s:\n%s%s", strings.Join(args, " "), pattern, got.out, got.err)
		}
	}
}

// warned repeats the doctor until it warns so, and returns its advice.
func (p *person) warned(t *testing.T, pattern string) string {
	t.Helper()
	match, said := regexp.MustCompile(pattern), result{}
	drillUntil(t, "the doctor warns: "+pattern, func() bool {
		said = p.says(t, "doctor")
		return match.MatchString(said.out)
	})
	return said.err
}

// shows runs a command that must print all of these.
func (p *person) shows(t *testing.T, args []string, patterns ...string) {
	t.Helper()
	wantPrinted(t, p.types(t, exitOK, args...), patterns...)
}

func wantPrinted(t *testing.T, got result, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(got.out) {
			t.Errorf("%s is not in\n%s%s", p, got.out, got.err)
		}
	}
}
