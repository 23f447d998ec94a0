package testserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// ReplicaOptions of a streaming replica.
type ReplicaOptions struct {
	PostgresOptions
	// Synchronous lets the primary's commits wait until the replica has them on
	// disk, so that a promotion loses nothing that was answered.
	Synchronous bool
}

// StartReplica copies a private primary and follows it by streaming. It returns
// when the primary shows it as streaming. The replica has the primary's
// databases and password; Promote makes it a primary.
func StartReplica(ctx context.Context, primary *PostgresServer, o ReplicaOptions) (*PostgresServer, error) {
	if primary.p == nil {
		return nil, errForeign
	}
	s, err := newPostgres(o.PostgresOptions)
	if err != nil {
		return nil, err
	}
	if err := s.follow(ctx, primary, o.Synchronous); err != nil {
		return nil, errors.Join(fmt.Errorf("start a replica: %w", err), s.Close())
	}
	return s, nil
}

func (s *PostgresServer) follow(ctx context.Context, primary *PostgresServer, synchronous bool) error {
	password, _ := primary.admin.User.Password()
	s.admin.User = primary.admin.User
	err := s.p.run(ctx, "pg_basebackup", []string{"PGPASSWORD=" + password}, "-h", "127.0.0.1", "-p", strconv.Itoa(primary.p.port),
		"-U", "dash", "-D", s.p.data(), "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")
	if err != nil {
		return err
	}
	name := "dash_" + strconv.Itoa(s.p.port)
	s.settings["primary_conninfo"] = fmt.Sprintf("host=127.0.0.1 port=%d user=dash password=%s application_name=%s", primary.p.port, password, name)
	if err := s.configure(); err != nil {
		return err
	}
	if err := s.p.write(s.p.data()+"/standby.signal", ""); err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	state := "async"
	if synchronous {
		state = "sync"
		if err := primary.Set(ctx, "synchronous_standby_names", name); err != nil {
			return err
		}
	}
	return primary.connected(ctx, func(c *pgx.Conn) error {
		return until(ctx, c, `SELECT EXISTS (SELECT FROM pg_stat_replication
			WHERE application_name = $1 AND state = 'streaming' AND sync_state = $2)`, name, state)
	})
}

// Promote makes a replica a primary and returns when it takes writes.
func (s *PostgresServer) Promote(ctx context.Context) error {
	err := s.connected(ctx, func(c *pgx.Conn) error {
		var done bool
		if err := c.QueryRow(ctx, "SELECT pg_promote(true, 60)").Scan(&done); err != nil {
			return err
		}
		if !done {
			return errors.New("not within 60 s: " + s.Log())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("promote a replica: %w", err)
	}
	return nil
}
