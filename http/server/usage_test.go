package server

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// TestUnknownUsageIsNull: a run that was found again after a restart cost
// something that nobody counted, which is not nothing.
func TestUnknownUsageIsNull(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		task messages.Task
		want string
	}{
		{messages.Task{Result: &messages.TaskResult{Text: "x"}}, `"result":{"length":1,"text":"x","truncated":false,"unfinished_sub_agents":0,"usage":null`},
		{messages.Task{Result: &messages.TaskResult{Text: "x", Usage: &messages.Usage{Input: 1234, Output: 14, CachedInput: 200, CacheWrite: 7}}},
			`"usage":{"cache_write_tokens":7,"cached_input_tokens":200,"input_tokens":1234,"output_tokens":14}`},
		{messages.Task{Result: &messages.TaskResult{Text: "x", CutFrom: 5_000_000}}, `"result":{"length":5000000,"text":"x","truncated":true,`},
		{messages.Task{Result: &messages.TaskResult{Text: "x", UnfinishedSubAgents: 2}}, `"truncated":false,"unfinished_sub_agents":2,`},
		{messages.Task{Error: &messages.TaskError{Code: "content_filter", Message: "m", Usage: &messages.Usage{Input: 9}}}, `"input_tokens":9`},
		{messages.Task{Error: &messages.TaskError{Code: "provider_auth", Message: "m"}}, `"retryable":false,"usage":null`},
	} {
		b, err := json.Marshal(viewTask(Task{Task: tt.task}, true))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), tt.want) {
			t.Errorf("%s\nlacks %s", b, tt.want)
		}
	}
}
