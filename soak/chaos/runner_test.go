package chaos

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestResume(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "report.json")
	cfg := RunConfig{Rounds: 50, Only: "kill", Engine: "sqlite", Logf: t.Logf}
	fresh, err := resume(path, cfg)
	if err != nil || len(fresh.Scenarios) != 0 {
		t.Fatalf("without a report: %+v, %v", fresh, err)
	}
	fresh.Scenarios["kill-dash"] = &Result{Wanted: 50, Done: 50}
	fresh.Scenarios["kill-gateways"] = &Result{Wanted: 50, Done: 20}
	if err := fresh.save(path); err != nil {
		t.Fatal(err)
	}
	again, err := resume(path, cfg)
	if err != nil || again.Scenarios["kill-gateways"].Done != 20 {
		t.Errorf("an interrupted run begins anew: %+v, %v", again, err)
	}
	for _, other := range []RunConfig{{Rounds: 51, Only: "kill", Engine: "sqlite"}, {Rounds: 50, Only: "kill-dash", Engine: "sqlite"}} {
		other.Logf = t.Logf
		if p, err := resume(path, other); err != nil || len(p.Scenarios) != 0 {
			t.Errorf("%+v goes on with what is finished or was another count: %+v, %v", other, p, err)
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := resume(path, cfg); err == nil {
		t.Error("a broken report was read")
	}
}

func TestRunNamesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	if err := Run(t.Context(), RunConfig{Rounds: 1, Only: "no such thing", Out: t.TempDir(), Logf: t.Logf}); err == nil {
		t.Error("a name that fits nothing passed")
	}
}

func TestVerdictFailsWithARun(t *testing.T) {
	t.Parallel()
	p := &Progress{Scenarios: map[string]*Result{"drain": {Done: 1, Failed: 1}}}
	if err := p.verdict(RunConfig{Logf: t.Logf}, ""); err == nil {
		t.Error("a failed run passed")
	}
	if err := p.verdict(RunConfig{Only: "kill", Logf: t.Logf}, ""); err != nil {
		t.Errorf("a failure of another scenario counts: %v", err)
	}
	if _, err := json.Marshal(p); err != nil {
		t.Error(err)
	}
}
