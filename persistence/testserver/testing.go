package testserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// cleanupTimeout bounds what a test does at its end.
const cleanupTimeout = 30 * time.Second

// shared holds the servers that all tests of this process use. Their guards end
// them after the process.
var shared struct {
	postgres, redis sync.Mutex
	postgresServer  *PostgresServer
	redisServer     *RedisServer
}

// Postgres is the server shared by the tests of this process; each takes a
// database of its own from Database. It is never stopped while they run.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	shared.postgres.Lock()
	defer shared.postgres.Unlock()
	if shared.postgresServer == nil {
		s, err := openPostgres(t.Context())
		fatal(t, err)
		shared.postgresServer = s
	}
	return shared.postgresServer
}

func openPostgres(ctx context.Context) (*PostgresServer, error) {
	if named := os.Getenv(envPostgresURL); named != "" {
		u, err := foreign(envPostgresURL, named, "postgres")
		if err != nil {
			return nil, err
		}
		s := &PostgresServer{admin: u}
		if err := s.exec(ctx, "SELECT 1"); err != nil {
			return nil, unreachable(envPostgresURL, err)
		}
		return s, nil
	}
	return StartPostgres(ctx, PostgresOptions{})
}

// Redis is the server shared by the tests of this process; each takes a
// database of its own from Database. It is never stopped while they run.
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	shared.redis.Lock()
	defer shared.redis.Unlock()
	if shared.redisServer == nil {
		s, err := openRedis(t.Context())
		fatal(t, err)
		shared.redisServer = s
	}
	return shared.redisServer
}

func openRedis(ctx context.Context) (*RedisServer, error) {
	if named := os.Getenv(envRedisURL); named != "" {
		u, err := foreign(envRedisURL, named, "redis")
		if err != nil {
			return nil, err
		}
		s := &RedisServer{admin: u, dbs: 16}
		if _, err := s.Do(ctx, "PING"); err != nil {
			return nil, unreachable(envRedisURL, err)
		}
		return s, nil
	}
	return StartRedis(ctx, RedisOptions{})
}

// foreign checks the URL of a server that is not ours. Errors never quote it:
// it holds a password.
func foreign(env, named, scheme string) (*url.URL, error) {
	u, err := url.Parse(named)
	if err != nil || !strings.HasPrefix(u.Scheme, scheme) || u.Port() == "" {
		return nil, fmt.Errorf("%s must have the form %s://user:password@host:port/…", env, scheme)
	}
	return u, nil
}

func unreachable(env string, err error) error {
	return &MissingError{What: "the server that " + env + " names", Next: err.Error()}
}

// Database is the URL of an empty database for this test, dropped at its end.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	return database(t, s.NewDatabase)
}

// Database is the URL of an empty database number for this test, emptied at its
// end. Keys are its own; pub/sub channels and CONFIG are the whole server's.
func (s *RedisServer) Database(t testing.TB) string {
	t.Helper()
	return database(t, s.NewDatabase)
}

func database(t testing.TB, take func(context.Context) (string, func(context.Context) error, error)) string {
	t.Helper()
	address, drop, err := take(t.Context())
	fatal(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := drop(ctx); err != nil {
			t.Error(err)
		}
	})
	return address
}

// NewPostgres is a private server for a test that stops, kills or pauses it,
// also when the environment names a shared one. It is closed at the test's end.
func NewPostgres(t testing.TB, o PostgresOptions) *PostgresServer {
	t.Helper()
	s, err := StartPostgres(t.Context(), o)
	fatal(t, err)
	t.Cleanup(func() { closeAtEnd(t, s.Close) })
	return s
}

// NewReplica is a streaming replica of a private server, closed at the test's end.
func NewReplica(t testing.TB, primary *PostgresServer, o ReplicaOptions) *PostgresServer {
	t.Helper()
	s, err := StartReplica(t.Context(), primary, o)
	fatal(t, err)
	t.Cleanup(func() { closeAtEnd(t, s.Close) })
	return s
}

// NewRedis is a private server for a test that stops, kills, pauses or
// configures it. It is closed at the test's end.
func NewRedis(t testing.TB, o RedisOptions) *RedisServer {
	t.Helper()
	s, err := StartRedis(t.Context(), o)
	fatal(t, err)
	t.Cleanup(func() { closeAtEnd(t, s.Close) })
	return s
}

func closeAtEnd(t testing.TB, closer func() error) {
	t.Helper()
	if err := closer(); err != nil {
		t.Error(err)
	}
}

// fatal ends a test. What cannot be had begins the message, so that it is told
// from a failure.
func fatal(t testing.TB, err error) {
	t.Helper()
	var missing *MissingError
	switch {
	case errors.As(err, &missing):
		t.Fatal(missing)
	case err != nil:
		t.Fatal(err)
	}
}
