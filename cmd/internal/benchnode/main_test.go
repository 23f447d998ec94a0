package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestModesMeasure: each mode ends and fills in what it is for.
func TestModesMeasure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode  string
		fills func(result) bool
	}{
		{"throughput", func(r result) bool { return r.Seconds >= r.EnqueueSeconds && r.EnqueueSeconds > 0 && r.P99 == 0 }},
		{"latency", func(r result) bool { return r.P99 >= r.P50 && r.P50 > 0 }},
		{"load", func(r result) bool { return r.LoadSeconds > 0 && r.FirstSeconds >= r.LoadSeconds }},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			args := []string{"--mode", tt.mode, "--tasks", "50", "--producers", "8", "--rate", "1000", "--gateways", "2", "--slots", "4"}
			if err := run(t.Context(), args, strings.NewReader("go\n"), &out); err != nil {
				t.Fatal(err)
			}
			ready, line, _ := strings.Cut(out.String(), "\n")
			var r result
			if err := json.Unmarshal([]byte(line), &r); err != nil || ready != "ready" {
				t.Fatalf("it printed %q: %v", out.String(), err)
			}
			if r.Tasks != 50 || r.CPUSeconds <= 0 || !tt.fills(r) {
				t.Errorf("%s measured %+v", tt.mode, r)
			}
		})
	}
}

func TestThroughputForATime(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--duration", "100ms", "--producers", "2", "--gateways", "1"}, strings.NewReader("go\n"), &out); err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(out.String(), "\n")
	var r result
	if err := json.Unmarshal([]byte(line), &r); err != nil || r.Tasks == 0 || r.EnqueueSeconds < 0.1 {
		t.Fatalf("it printed %q: %v", out.String(), err)
	}
}

func TestUnknownModeIsRefused(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--mode", "other"}, strings.NewReader("go\n"), &out); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Fatalf("got %v", err)
	}
}
