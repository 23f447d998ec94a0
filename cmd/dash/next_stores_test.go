package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// followStores follows what is said about stores and archives: with processes of
// their own, as they need no node or are one.
func followStores(t *testing.T, a *advised) {
	p := serveNext(t, a)
	dir := t.TempDir()
	data := filepath.Dir(p.node.keyFile)
	p.types(t, exitOK, "task", "submit", "--message", "kept", "--wait")

	said := refusedDrill(t, exitNotFound, "restore", filepath.Join(dir, "nothing"), "--data", filepath.Join(dir, "x"))
	archive := filepath.Join(dir, "archive")
	dashDrill(t, p.line(t, stepAt{"GiveArchive", 0}, said, nil, archive, "--data", data)...)
	said = refusedDrill(t, exitUsage, "restore", dir, "--data", filepath.Join(dir, "x"))
	dashDrill(t, p.line(t, stepAt{"GiveBackupFile", 0}, said, nil, filepath.Join(dir, "second-archive"), "--data", data)...)
	p.node.end(t)

	// Files that were replaced by something else are not started on.
	older := filepath.Join(dir, "older")
	dashDrill(t, "restore", archive, "--data", older)
	damage(t, data)
	said = refusedDrill(t, exitFailed, "serve", "--data", data, "--listen", "127.0.0.1:0")
	kept := filepath.Join(dir, "kept")
	told := saysDrill(t, p.line(t, stepAt{"RestoreElsewhere", 0}, said, nil, archive, "--data", kept)...)
	key := keyOf(t, dashDrill(t, p.line(t, stepAt{"MakeKeyOffline", 0}, told, []string{"NAME", "way-back"}, "--data", kept, "-o", "json")...))
	dashDrill(t, p.line(t, stepAt{"CheckKey", 1}, a.fill("CheckKey"), []string{"NAME", "another"}, "--data", kept)...)
	again := startNext(t, a, kept)
	again.node.key = key
	mayEverything(t, again.node)
	again.shows(t, []string{"task", "list", "-o", "json"}, `"kept"`)
	again.node.end(t)
	for i, name := range []string{"PutFilesBack", "WaitOrRestoreAgain"} { // the tests of the stores bring these about
		dashDrill(t, p.line(t, stepAt{name, 0}, a.fill(name, blanksOf(a, name)...), nil, archive, "--data", filepath.Join(dir, "again", string(rune('a'+i))))...)
	}

	// Migrations that are pending.
	dashDrill(t, "migrate", "down", "--data", kept, "--to", "1", "--yes")
	said = saysDrill(t, "migrate", "status", "--data", kept)
	dashDrill(t, p.line(t, stepAt{"ApplyMigrations", 1}, said, nil, "--data", kept)...)
	if status := dashDrill(t, "migrate", "status", "--data", kept); strings.Contains(status, "pending") {
		t.Errorf("after migrate up:\n%s", status)
	}
	dashDrill(t, "migrate", "down", "--data", kept, "--to", "1", "--yes")
	said = refusedDrill(t, exitFailed, "backup", filepath.Join(dir, "early"), "--data", kept)
	dashDrill(t, p.line(t, stepAt{"MigrateFirst", 0}, said, nil, "--data", kept)...)
	dashDrill(t, "backup", filepath.Join(dir, "early"), "--data", kept)
	dashDrill(t, "migrate", "down", "--data", kept, "--to", "1", "--yes")
	said = saysDrill(t, "migrate", "status", "--data", kept)
	serve := p.line(t, stepAt{"ApplyMigrations", 0}, said, nil)
	if len(serve) != 1 || serve[0] != "serve" { // startNext types it
		t.Errorf("the node is started with %v", serve)
	}
	again = startNext(t, a, kept)
	again.node.end(t)
	if status := dashDrill(t, "migrate", "status", "--data", kept); strings.Contains(status, "pending") {
		t.Errorf("after a start:\n%s", status)
	}
}

func blanksOf(a *advised, name string) []any {
	blanks := make([]any, strings.Count(a.steps[name], "%s"))
	for i := range blanks {
		blanks[i] = "x"
	}
	return blanks
}

// damage makes the database unreadable.
func damage(t *testing.T, data string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(data, "dash.db"), []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"dash.db-wal", "dash.db-shm"} {
		if err := os.RemoveAll(filepath.Join(data, more)); err != nil {
			t.Fatal(err)
		}
	}
}

// saysDrill runs a command that must succeed and returns its stderr.
func saysDrill(t *testing.T, args ...string) string {
	t.Helper()
	cmd := drillCommand(t.Context(), t, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("dash %s: %v\n%s", args[0], err, errs.String())
	}
	return errs.String()
}

// followHelp follows what is said without a node.
func followHelp(t *testing.T, a *advised) {
	none := &person{advised: a, node: &drillNode{url: "http://127.0.0.1:1", keyFile: filepath.Join(t.TempDir(), "key")}}

	said := none.types(t, exitUnavailable, "task", "list").err
	none.node = serveDev(t, none.line(t, stepAt{"StartNode", 0}, said, nil))
	none.until(t, "sim-0 +ready", "gateway", "list") // the key is found by itself
	none.types(t, exitOK, "task", "submit", "--message", "x", "--wait")

	wantPrinted(t, none.follow(t, "CorrectSettings", 0, none.types(t, exitUsage, "config", "--config", writeNext(t, "lisen: x\n")).err), "(?m)^listen ")
	help := none.follow(t, "NameYAML", 1, none.types(t, exitUsage, "config", "--config", writeNext(t, "{")).err).out
	wantPrinted(t, none.types(t, exitOK, "config", "--config", writeNext(t, exampleIn(help))), "file ")

	empty := startNext(t, a, t.TempDir(), "--sim-gateways", "0")
	said = empty.types(t, exitFailed, "doctor").err
	wantPrinted(t, empty.follow(t, "AddGatewayHelp", 0, said), "--token-file")
	empty.node.end(t)

	none.types(t, exitOK, none.line(t, stepAt{"MeantCommand", 0}, none.types(t, exitUsage, "task", "lst").err, nil)...)
	none.follow(t, "HelpListsThem", 0, none.types(t, exitUsage, "task").err)
	none.follow(t, "HelpListsFlags", 0, none.types(t, exitUsage, "task", "list", "--xyz").err)
	none.follow(t, "HelpListsAll", 0, none.types(t, exitUsage, "zzz").err)
	none.follow(t, "HelpListsAll", 0, none.types(t, exitUsage, "help", "zzz").err)
	none.follow(t, "HelpSaysHow", 0, none.types(t, exitUsage, "task", "release", "x").err)
	var every func(c *cobra.Command)
	every = func(c *cobra.Command) {
		if c.Runnable() {
			none.follow(t, "HelpSaysHow", 0, a.fill("HelpSaysHow", c.CommandPath()))
		}
		for _, sub := range c.Commands() {
			every(sub)
		}
	}
	every(newRoot(&terminal{}))
}

// exampleIn is the example of a configuration file in a help text.
func exampleIn(help string) string {
	var lines []string
	for line := range strings.Lines(help) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && strings.HasPrefix(line, "  ") && !strings.Contains(name, " ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func writeNext(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dash.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serveDev starts a node as it is said, and returns it with its user's home but
// without its key. Only the port is another one, since the usual one may be taken.
func serveDev(t *testing.T, args []string) *drillNode {
	t.Helper()
	cmd := drillCommand(context.WithoutCancel(t.Context()), t, append(args, "--listen", "127.0.0.1:0")...)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	found, output := make(chan string, 1), make(chan string, 1)
	go func() { output <- watchOutput(read, drillReady, found) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		out := <-output
		if err := cmd.Wait(); err != nil {
			t.Errorf("dash serve --dev ended with %v:\n%s", err, out)
		}
	})
	url, ok := <-found
	if !ok {
		t.Fatalf("dash serve --dev did not start:\n%s", <-output)
	}
	home, _ := strings.CutPrefix(cmd.Env[0], "HOME=")
	return &drillNode{url: url, keyFile: filepath.Join(home, "key")}
}
