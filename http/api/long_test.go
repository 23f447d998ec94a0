package api_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/http/api"
)

// FuzzLong: a text that is written in pieces is the one that the encoder writes.
func FuzzLong(f *testing.F) {
	for _, s := range []string{"", "a", "ä€😀", "\x00\x1f\"\\<>\u2028", "\xff\xfe", "a\xf0\x9f"} {
		f.Add(s, 1)
		f.Add(s, 33_000)
	}
	f.Fuzz(func(t *testing.T, s string, times int) {
		if times < 0 || times > 100_000 || len(s)*times > 1<<20 {
			return
		}
		s = strings.Repeat(s, times)
		task := api.Task{Id: "t", Input: api.TaskInput{Message: "m" + s}, Result: &api.TaskResult{Text: s, Length: 7}}
		var want, got bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(task); err != nil {
			t.Fatal(err)
		}
		var l api.Long
		l.Task(&task)
		var buf bytes.Buffer
		enc = json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(task); err != nil {
			t.Fatal(err)
		}
		if err := l.Write(&got, buf.Bytes()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("%d bytes differ from the encoder's %d", got.Len(), want.Len())
		}
	})
}

// TestAnEmptyTextIsTold: only a text that was left out is missing.
func TestAnEmptyTextIsTold(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]api.TaskResult{
		`"text":""`: {}, `"text":"a"`: {Text: "a", Length: 1}, `{"length":1,"truncated"`: {Length: 1},
	} {
		b, err := json.Marshal(api.Task{Result: &r})
		if err != nil || !bytes.Contains(b, []byte(want)) {
			t.Errorf("%v, lacks %s: %s", err, want, b)
		}
	}
}
