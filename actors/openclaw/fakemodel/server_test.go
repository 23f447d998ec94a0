package fakemodel

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) *Server {
	t.Helper()
	s, err := Start(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// ask makes one call on a connection of its own.
func ask(ctx context.Context, s *Server, stream bool, messages ...string) (int, string, error) {
	body := map[string]any{"model": Model, "stream": stream}
	var list []any
	for _, m := range messages {
		list = append(list, map[string]any{"role": "user", "content": []any{map[string]any{"type": "text", "text": m}}})
	}
	body["messages"] = list
	b, err := json.Marshal(body)
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/chat/completions", strings.NewReader(string(b)))
	if err != nil {
		return 0, "", err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(out), err
}

// streamed joins the deltas of a streamed reply.
func streamed(t *testing.T, body string) string {
	t.Helper()
	text := ""
	for line := range strings.Lines(body) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var c completion
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			t.Fatalf("event %q: %v", data, err)
		}
		if len(c.Choices) > 0 {
			text += c.Choices[0].Delta.Content
		}
	}
	return text
}

func TestReplies(t *testing.T) {
	t.Parallel()
	s := start(t)
	_, body, err := ask(t.Context(), s, true, "first", "sécond [[chunks=3]][[chunkms=1]]", "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>")
	if got, want := streamed(t, body), "ECHO(2): sécond"; err != nil || got != want {
		t.Errorf("streamed reply %q %v, want %q", got, err, want)
	}
	if !strings.HasSuffix(body, "data: [DONE]\n\n") || strings.Count(body, "data: ") < 6 {
		t.Errorf("stream %q", body)
	}
	_, body, err = ask(t.Context(), s, false, "x [[reply=fixed]]")
	var c completion
	if err != nil || json.Unmarshal([]byte(body), &c) != nil || c.Choices[0].Message.Content != "fixed" || c.Usage.Total == 0 {
		t.Errorf("plain reply %q %v", body, err)
	}
	r := s.Requests()
	if len(r) != 2 || r[0].Users != 2 || !strings.HasPrefix(r[0].Last, "sécond") || r[1].Model != Model {
		t.Errorf("requests %+v", r)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	s := start(t)
	for mode, want := range map[string]int{"500": 500, "429": 429, "401": 401, "400": 400, "odd": 500} {
		if status, body, err := ask(t.Context(), s, true, "x [[fail="+mode+"]]"); err != nil || status != want || !strings.Contains(body, `"error"`) {
			t.Errorf("fail=%s: %d %q %v", mode, status, body, err)
		}
	}
	if _, _, err := ask(t.Context(), s, true, "x [[fail=reset]]"); err == nil {
		t.Error("fail=reset was answered")
	}
	if _, body, err := ask(t.Context(), s, true, "x [[fail=cut]]"); err == nil || !strings.Contains(body, "partial") {
		t.Errorf("fail=cut: %q %v", body, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := ask(ctx, s, true, "x [[fail=hang]]"); err == nil {
		t.Error("fail=hang was answered")
	}
	s.Set(Settings{Fail: "500", FailNext: 1})
	for _, want := range []int{500, 200} {
		if status, _, err := ask(t.Context(), s, true, "x"); err != nil || status != want {
			t.Errorf("fail next: %d %v, want %d", status, err, want)
		}
	}
}

func TestControl(t *testing.T) {
	t.Parallel()
	s := start(t)
	post := func(body string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, strings.TrimSuffix(s.URL(), "/v1")+"/__control", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := post(`{"reply":"set"}`); got != http.StatusOK {
		t.Errorf("control: %d", got)
	}
	if got := post(`{"surprise":1}`); got != http.StatusBadRequest {
		t.Errorf("control with an unknown key: %d", got)
	}
	if _, body, err := ask(t.Context(), s, true, "x"); err != nil || streamed(t, body) != "set" {
		t.Errorf("reply %q %v", body, err)
	}
	if st := s.Stats(); st.Requests != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	s := start(t)
	answered := make(chan error, 1)
	go func() {
		_, body, err := ask(t.Context(), s, false, "hi [[gate=a]]")
		if err == nil && !strings.Contains(body, "ECHO(1): hi") {
			t.Errorf("answer %s", body)
		}
		answered <- err
	}()
	s.Open("b")
	for s.Stats().Active == 0 {
		<-time.After(time.Millisecond)
	}
	select {
	case err := <-answered:
		t.Errorf("answered before the gate was opened: %v", err)
	default:
	}
	s.Open("a")
	s.Open("a")
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if _, body, err := ask(t.Context(), s, false, "later [[gate=a]]"); err != nil || !strings.Contains(body, "later") {
		t.Errorf("at an open gate: %s %v", body, err)
	}
	waiting, cancel := context.WithCancel(t.Context())
	go func() {
		for s.Stats().Active == 0 {
			<-time.After(time.Millisecond)
		}
		cancel()
	}()
	if _, _, err := ask(waiting, s, false, "never [[gate=c]]"); err == nil {
		t.Error("passed a closed gate")
	}
	for s.Stats().Abandoned == 0 {
		<-time.After(time.Millisecond)
	}
}
