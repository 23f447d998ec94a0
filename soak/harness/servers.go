package harness

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dash-fleet/dash/persistence/testserver"
)

// Engines that a Bench can run Dash on.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
	Redis    = "redis"
)

// Engines lists them.
func Engines() []string { return []string{SQLite, Postgres, Redis} }

// Servers are the private database servers of a bench, each behind a proxy
// that can cut Dash off. What the engine does not need is nil.
type Servers struct {
	Postgres      *testserver.PostgresServer
	PostgresProxy *testserver.Proxy
	Replica       *testserver.PostgresServer // of Postgres, without a proxy
	Redis         *testserver.RedisServer
	RedisProxy    *testserver.Proxy
}

// startServers starts what the engine needs. Close ends them.
func startServers(ctx context.Context, engine string, replica bool) (s *Servers, err error) {
	s = &Servers{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	switch engine {
	case "", SQLite:
		return s, nil
	case Postgres, Redis:
	default:
		return s, fmt.Errorf("there is no engine %q", engine)
	}
	if s.Postgres, err = testserver.StartPostgres(ctx, testserver.PostgresOptions{}); err != nil {
		return s, err
	}
	if s.PostgresProxy, err = testserver.StartProxy(s.Postgres.Addr()); err != nil {
		return s, err
	}
	if replica {
		if s.Replica, err = testserver.StartReplica(ctx, s.Postgres, testserver.ReplicaOptions{Synchronous: true}); err != nil {
			return s, err
		}
	}
	if engine == Postgres {
		return s, nil
	}
	if s.Redis, err = testserver.StartRedis(ctx, testserver.RedisOptions{}); err != nil {
		return s, err
	}
	s.RedisProxy, err = testserver.StartProxy(s.Redis.Addr())
	return s, err
}

// env tells dash serve where they are; passwords stay out of its arguments.
func (s *Servers) env(engine string) ([]string, error) {
	env := []string{"DASH_STORE=" + engine}
	if s.Postgres != nil {
		u, err := s.PostgresProxy.URL(s.Postgres.URL())
		if err != nil {
			return nil, err
		}
		if s.Replica != nil {
			u = strings.Replace(u, s.PostgresProxy.Addr(), s.PostgresProxy.Addr()+","+s.Replica.Addr(), 1)
		}
		env = append(env, "DASH_POSTGRES_URL="+u)
	}
	if s.Redis != nil {
		u, err := s.RedisProxy.URL(s.Redis.URL())
		if err != nil {
			return nil, err
		}
		env = append(env, "DASH_REDIS_URL="+u)
	}
	return env, nil
}

// Close ends the servers and removes their folders.
func (s *Servers) Close() error {
	var errs []error
	if s.PostgresProxy != nil {
		s.PostgresProxy.Close()
	}
	if s.RedisProxy != nil {
		s.RedisProxy.Close()
	}
	if s.Replica != nil {
		errs = append(errs, s.Replica.Close())
	}
	if s.Postgres != nil {
		errs = append(errs, s.Postgres.Close())
	}
	if s.Redis != nil {
		errs = append(errs, s.Redis.Close())
	}
	return errors.Join(errs...)
}
