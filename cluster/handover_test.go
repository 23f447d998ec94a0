package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHandOverStories plays testdata/handover: each line is a pause, the better home
// that is seen then, - for none, and what this node does.
func TestHandOverStories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/handover/*.txt")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d stories, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			play(t, string(text))
		})
	}
}

func play(t *testing.T, story string) {
	t.Helper()
	var works handing
	var waits courtesy
	free, standsBy := false, false
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for n, line := range strings.Split(story, "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
			continue
		case len(f) == 1:
			free, standsBy = f[0] == "free", true
			continue
		case len(f) != 3:
			t.Fatalf("line %d: %q", n+1, line)
		}
		after, err := time.ParseDuration(f[0])
		if err != nil {
			t.Fatalf("line %d: %v", n+1, err)
		}
		now = now.Add(after)
		better := strings.TrimPrefix(f[1], "-")
		if got := does(&works, &waits, standsBy, better, free, now); got != f[2] {
			t.Errorf("line %d: %s, want %s", n+1, got, f[2])
		}
	}
}

func does(h *handing, c *courtesy, standsBy bool, better string, free bool, now time.Time) string {
	if standsBy {
		return map[bool]string{true: "waits", false: "takes"}[c.waits(better, free, now)]
	}
	yields, calm := h.look(better, now)
	if calm && !yields {
		return "calm without yielding"
	}
	switch {
	case calm:
		return "calm"
	case yields:
		return "yields"
	}
	return "works"
}
