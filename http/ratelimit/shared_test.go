package ratelimit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/dash-fleet/dash/persistence/testserver"
)

// soon is for what happens at once on a machine that has nothing else to do.
const soon = 30 * time.Second

// shared starts a Shared of a node, with the changes it tells. adjust may be nil.
func shared(t *testing.T, url string, adjust func(*Config)) (*Shared, <-chan error) {
	t.Helper()
	logging.Disable()
	o, err := goredis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.Protocol, o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = 2, -1, 1, true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = time.Second, time.Second, time.Second
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	client := goredis.NewClient(o)
	told := make(chan error, 100)
	cfg := Config{Client: client, Local: local(t, 0), Timeout: soon, Changed: func(err error) { told <- err }}
	if adjust != nil {
		adjust(&cfg)
	}
	s, err := NewShared(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Start(t.Context())
	t.Cleanup(func() {
		s.Stop()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, told
}

// quick notices soon, but not what is only a busy machine.
func quick(c *Config) { c.Timeout, c.Pause = time.Second, 100*time.Millisecond }

// wantTold waits until it is told that the server works, or does not.
func wantTold(t *testing.T, told <-chan error, works bool) {
	t.Helper()
	end := time.After(soon)
	for {
		select {
		case err := <-told:
			if (err == nil) == works {
				return
			}
		case <-end:
			t.Fatalf("not told in time, want works=%v", works)
		}
	}
}

// TestSharedCountsForAll: nodes share a key's limit, and the script decides as
// Local does.
func TestSharedCountsForAll(t *testing.T) {
	t.Parallel()
	url := testserver.Redis(t).Database(t)
	const perMinute = 4 // one comes back in 15 s
	one, told := shared(t, url, nil)
	wantTold(t, told, true)
	two, _ := shared(t, url, nil)
	nodes := []*Shared{one, two}
	for i := range perMinute {
		if d := nodes[i%2].Take(t.Context(), "k", perMinute); !d.OK || d.Remaining != perMinute-1-i || d.Full <= 0 {
			t.Fatalf("request %d: %+v", i, d)
		}
	}
	three, _ := shared(t, url, nil) // knows nothing of its own
	for i, n := range []*Shared{one, two, three} {
		if d := n.Take(t.Context(), "k", perMinute); d.OK || d.Remaining != 0 || d.Retry <= 0 || d.Retry > 15*time.Second {
			t.Errorf("node %d, one too many: %+v", i, d)
		}
	}
	if n, _ := takes(t, two, "other", perMinute, perMinute+1); n != perMinute {
		t.Errorf("%d requests of another key passed", n)
	}
	ttl, err := one.cfg.Client.PTTL(t.Context(), DefaultPrefix+"k").Result()
	if err != nil || ttl <= 0 || ttl > time.Minute {
		t.Errorf("the key stays for %v, %v; want as long as it is needed", ttl, err)
	}

	// What comes back passes, and not before.
	n := 0
	for one.Take(t.Context(), "fast", 600).OK {
		n++
	}
	if n < 600 {
		t.Fatalf("only %d passed", n)
	}
	d := three.Take(t.Context(), "fast", 600)
	for d.OK { // one may have come back meanwhile
		d = three.Take(t.Context(), "fast", 600)
	}
	time.Sleep(d.Retry + time.Millisecond)
	if n, d := takes(t, three, "fast", 600, 1); n != 1 {
		t.Errorf("refused after Retry: %+v", d)
	}
}

// TestRefusedIsNotAskedAgain: whoever calls on when refused costs the server nothing.
func TestRefusedIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	server := testserver.NewRedis(t, testserver.RedisOptions{})
	s, _ := shared(t, server.URL(), func(c *Config) { c.Pause = time.Hour }) // no probes
	takes(t, s, "k", 1, 2)
	calls := func() string {
		info, err := server.Do(t.Context(), "INFO", "commandstats")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(info, "\n") {
			if strings.HasPrefix(line, "cmdstat_evalsha:") {
				calls, _, _ := strings.Cut(line, ",")
				return calls
			}
		}
		t.Fatalf("no EVALSHA in %s", info)
		return ""
	}
	before := calls()
	if n, d := takes(t, s, "k", 1, 100); n != 0 || d.Retry <= 0 || d.Retry > time.Minute {
		t.Errorf("%d passed, then %+v", n, d)
	}
	if after := calls(); after != before {
		t.Errorf("%s, then %s", before, after)
	}
}

// TestSharedSurvivesItsServer: however the server fails, every request is
// judged in time and by what is known of its key; the server counts again when
// it is back.
func TestSharedSurvivesItsServer(t *testing.T) {
	t.Parallel()
	server := testserver.NewRedis(t, testserver.RedisOptions{})
	start := func() error { return server.Start(context.WithoutCancel(t.Context())) }
	s, told := shared(t, server.URL(), quick)
	wantTold(t, told, true)
	for _, fault := range []struct {
		name     string
		on, over func() error
	}{
		{"paused", server.Pause, server.Resume},
		{"killed", server.Kill, start},
		{"stopped", server.Stop, start},
		{"read only", set(t, server, "REPLICAOF", "127.0.0.1", "1"), set(t, server, "REPLICAOF", "NO", "ONE")},
	} {
		key := strings.ReplaceAll(fault.name, " ", "-")
		if n, _ := takes(t, s, key, 3, 2); n != 2 { // one comes back in 20 s
			t.Fatalf("%s: %d of 2 passed before", fault.name, n)
		}
		alone := testutil.ToFloat64(s.alone)
		if err := fault.on(); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		n, _ := takes(t, s, key, 3, 50)
		// The first one waits for a second; the rest is for a busy machine.
		if took := time.Since(begun); n != 1 || took > 10*time.Second {
			t.Errorf("%s: %d more passed, want the one that was left; 50 requests took %v", fault.name, n, took)
		}
		wantTold(t, told, false)
		takes(t, s, key+"-new", 100, 50)
		if n := testutil.ToFloat64(s.alone) - alone; n < 50 {
			t.Errorf("%s: %v requests were judged alone", fault.name, n)
		}
		if err := fault.over(); err != nil {
			t.Fatal(err)
		}
		wantTold(t, told, true)
		alone = testutil.ToFloat64(s.alone)
		if d := s.Take(t.Context(), key+"-after", 3); !d.OK || testutil.ToFloat64(s.alone) != alone {
			t.Errorf("%s: the server does not count again: %+v", fault.name, d)
		}
	}
}

// TestChangesAreToldOnce: an outage is one message, not one per request.
func TestChangesAreToldOnce(t *testing.T) {
	t.Parallel()
	s, told := shared(t, testserver.Redis(t).Database(t), func(c *Config) { c.Pause = time.Hour })
	wantTold(t, told, true)
	for _, err := range []error{nil, errors.New("one"), errors.New("two"), nil, nil} {
		s.set(err)
	}
	if n := len(told); n != 2 {
		t.Errorf("told %d times, want of the failure and of the recovery", n)
	}
	if err := <-told; err == nil || err.Error() != "one" {
		t.Errorf("told %v", err)
	}
}

func set(t *testing.T, s *testserver.RedisServer, args ...string) func() error {
	return func() error { _, err := s.Do(t.Context(), args...); return err }
}

// TestNobodyThere: without a server from the start each node counts alone.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	server := testserver.NewRedis(t, testserver.RedisOptions{})
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	s, told := shared(t, server.URL(), quick)
	wantTold(t, told, false)
	if n, _ := takes(t, s, "k", 3, 10); n != 3 {
		t.Errorf("%d of 10 passed, want 3", n)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantTold(t, told, true)
}

// TestCallerGone: a client that hangs up says nothing of the server.
func TestCallerGone(t *testing.T) {
	t.Parallel()
	s, told := shared(t, testserver.Redis(t).Database(t), nil)
	wantTold(t, told, true)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Take(ctx, "k", 3)
	if d := s.Take(t.Context(), "k", 3); !d.OK || !s.up.Load() {
		t.Errorf("%+v, the server is asked: %v", d, s.up.Load())
	}
}

// TestWhatTheServerHolds: a time far ahead, left by a clock that was set back,
// keeps a key waiting for no longer than its limit does, and what is no time
// at all keeps nobody waiting.
func TestWhatTheServerHolds(t *testing.T) {
	t.Parallel()
	s, told := shared(t, testserver.Redis(t).Database(t), func(c *Config) { c.Pause = time.Hour })
	wantTold(t, told, true)
	if err := s.cfg.Client.Set(t.Context(), DefaultPrefix+"k", "9000000000000000", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if d := s.Take(t.Context(), "k", 600); d.OK || d.Retry > 100*time.Millisecond {
		t.Errorf("%+v", d)
	}
	if err := s.cfg.Client.LPush(t.Context(), DefaultPrefix+"list", "x").Err(); err != nil {
		t.Fatal(err)
	}
	if d := s.Take(t.Context(), "list", 3); !d.OK {
		t.Errorf("%+v", d)
	}
	wantTold(t, told, false)
}
