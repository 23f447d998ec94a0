package testserver

import (
	"errors"
	"net/url"
	"testing"
)

// TestForeignServersAreLeftAlone: what would disturb others is refused.
func TestForeignServersAreLeftAlone(t *testing.T) {
	t.Parallel()
	pg, redis := &PostgresServer{admin: &url.URL{}}, &RedisServer{admin: &url.URL{}}
	for i, call := range []func() error{
		func() error { return pg.Stop(Fast) }, pg.Kill, pg.Pause, pg.Resume, func() error { return pg.Start(t.Context()) },
		func() error { return pg.Set(t.Context(), "fsync", "off") },
		func() error { _, err := StartReplica(t.Context(), pg, ReplicaOptions{}); return err },
		redis.Stop, redis.Kill, redis.Pause, redis.Resume, func() error { return redis.Start(t.Context()) },
	} {
		if err := call(); !errors.Is(err, errForeign) {
			t.Errorf("call %d: %v, want a refusal", i, err)
		}
	}
	if err := errors.Join(pg.Close(), redis.Close()); err != nil {
		t.Error(err)
	}
}

func TestForeignURLsAreChecked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		address, scheme string
		ok              bool
	}{
		{"postgres://u:p@127.0.0.1:5432/x", "postgres", true},
		{"postgresql://u:p@127.0.0.1:5432/x", "postgres", true},
		{"redis://127.0.0.1:6379", "redis", true},
		{"host=127.0.0.1 password=secret", "postgres", false},
		{"redis://127.0.0.1", "redis", false},
		{"http://127.0.0.1:1", "redis", false},
	} {
		if _, err := foreign("DASH_TEST_X_URL", tt.address, tt.scheme); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.address, err)
		}
	}
}
