package testserver_test

import (
	"context"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/persistence/testserver"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

func do(t *testing.T, s *testserver.RedisServer, args ...string) string {
	t.Helper()
	answer, err := s.Do(t.Context(), args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return answer
}

func TestRedisSurvivesItsEnds(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t, testserver.RedisOptions{})
	for i, end := range []func() error{s.Stop, s.Kill} {
		do(t, s, "INCR", "n")
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Do(t.Context(), "PING"); err == nil {
			t.Fatalf("end %d: it still answers", i)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := do(t, s, "GET", "n"); n != "2" {
		t.Fatalf("n is %s, want 2", n)
	}
	if nothing := do(t, s, "GET", "other"); nothing != "" {
		t.Fatalf("got %q for nothing", nothing)
	}
	if err := s.Start(t.Context()); err == nil {
		t.Fatal("started a server that runs")
	}
}

func TestRedisPauses(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t, testserver.RedisOptions{})
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Do(ctx, "PING"); !isTimeout(err) {
		t.Fatalf("a paused server: %v, want silence", err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	do(t, s, "PING")
}

// TestRedisRefusesADamagedFile: the files are the real ones, and a server that
// does not come up says why.
func TestRedisRefusesADamagedFile(t *testing.T) {
	t.Parallel()
	s := testserver.NewRedis(t, testserver.RedisOptions{})
	for range 100 {
		do(t, s, "INCR", "n")
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	files, err := s.AOFFiles()
	if err != nil || len(files) == 0 {
		t.Fatalf("append-only files %v, %v", files, err)
	}
	last := files[len(files)-1]
	raw, err := os.ReadFile(last)
	if err != nil || len(raw) < 1000 {
		t.Fatalf("%s: %d bytes, %v", last, len(raw), err)
	}
	copy(raw[len(raw)/2:], "*9\r\ndamaged")
	if err := os.WriteFile(last, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err == nil || !contains(err.Error(), "Bad file format") {
		t.Fatalf("start on a damaged file: %v", err)
	}
}

func TestRedisRefusesAnotherPassword(t *testing.T) {
	t.Parallel()
	s := testserver.Redis(t)
	u, err := url.Parse(s.Database(t))
	if err != nil || u.Scheme != "redis" || u.Host != s.Addr() || u.Path == "/0" {
		t.Fatalf("URL %s, %v", u, err)
	}
	if password, _ := u.User.Password(); len(password) < 20 {
		t.Fatalf("a password of %d characters", len(password))
	}
	for setting, want := range map[string]string{"appendonly": "yes", "appendfsync": "always"} {
		if got := do(t, s, "CONFIG", "GET", setting); got != setting+"\n"+want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
}
