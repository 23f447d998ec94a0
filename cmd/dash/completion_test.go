package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dash-fleet/dash/http/api"
)

// TestEveryFlagWithValuesCompletes: wherever a flag of these names stands, the
// shell offers its values.
func TestEveryFlagWithValuesCompletes(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("GET /api/v1/tenants", http.StatusOK, map[string]any{"items": []api.TenantEntry{{Id: "acme", Name: "Acme"}}})
	seen := map[string]int{}
	var each func(c *cobra.Command)
	term := &terminal{err: &bytes.Buffer{}, environ: []string{"DASH_URL=" + f.URL, "DASH_API_KEY=dash_x"}}
	want := map[string]string{"tenant": "acme", "code": "model_unknown", "store": "postgres", "log-level": "debug"}
	each = func(c *cobra.Command) {
		c.SetContext(t.Context())
		c.Flags().VisitAll(func(flag *pflag.Flag) {
			if want[flag.Name] == "" {
				return
			}
			seen[flag.Name]++
			values, has := c.GetFlagCompletionFunc(flag.Name)
			if !has {
				t.Errorf("%s --%s: no values", c.CommandPath(), flag.Name)
				return
			}
			got, directive := values(c, nil, "")
			if !strings.Contains(strings.Join(got, "\n"), want[flag.Name]) || directive&cobra.ShellCompDirectiveNoFileComp == 0 {
				t.Errorf("%s --%s: %q (%d), want %s", c.CommandPath(), flag.Name, got, directive, want[flag.Name])
			}
		})
		for _, sub := range c.Commands() {
			each(sub)
		}
	}
	each(newRoot(term))
	for name := range want {
		if seen[name] == 0 {
			t.Errorf("no command has --%s", name)
		}
	}
}

// TestVerbsCompleteWhatTheyActOn: the server is asked for those tasks alone.
func TestVerbsCompleteWhatTheyActOn(t *testing.T) {
	t.Parallel()
	for verb, want := range map[string]string{
		"cancel": "state=scheduled%2Cqueued%2C", "release": "state=held", "replay": "state=dead_letter", "show": "", "logs": "",
	} {
		f := newFake(t)
		f.answer("GET /api/v1/tasks", http.StatusOK, map[string]any{"items": []api.Task{fakeTask(longID+"1", api.TaskStateQueued)}})
		root := newRoot(&terminal{err: &bytes.Buffer{}, environ: []string{"DASH_URL=" + f.URL, "DASH_API_KEY=dash_x"}})
		c, _, err := root.Find([]string{"task", verb})
		if err != nil {
			t.Fatal(err)
		}
		c.SetContext(t.Context())
		if got, _ := c.ValidArgsFunction(c, nil, ""); len(got) != 1 {
			t.Errorf("%s offers %q", verb, got)
		}
		asked := f.requests()
		if len(asked) != 1 || !strings.Contains(asked[0], want) || strings.Contains(asked[0], "succeeded") || want == "" && strings.Contains(asked[0], "state=") {
			t.Errorf("%s asked %q, want %q", verb, asked, want)
		}
	}
}
