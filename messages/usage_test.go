package messages

import "testing"

func TestUsageOfOldRowsAndUnknownOnes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		r    *TaskResult
		in   int64 // -1: unknown
	}{
		{"told", &TaskResult{Usage: &Usage{Input: 1234, CachedInput: 200}}, 1234},
		{"told as nothing", &TaskResult{Usage: &Usage{}}, 0},
		{"of an older release", &TaskResult{InputTokens: 10, OutputTokens: 5}, 10},
		{"unknown", &TaskResult{Text: "adopted"}, -1},
		{"no result", nil, -1},
	} {
		u := tt.r.Used()
		if got := u.GetInput(); (u == nil) != (tt.in < 0) || u != nil && got != tt.in {
			t.Errorf("%s: %v, want %d", tt.name, u, tt.in)
		}
	}
}
