package testserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// StopMode says how PostgreSQL is stopped; see pg_ctl.
type StopMode int

// Fast rolls back what is open and shuts down in order. Immediate ends at once
// and recovers from the log at the next start.
const (
	Fast StopMode = iota
	Immediate
)

// PostgresOptions of a private server.
type PostgresOptions struct {
	Dir      string            // parent of the server's folder; "" for the one of temporary files
	Settings map[string]string // in postgresql.conf, on top of the defaults of this package
}

// PostgresServer is a private server, or a running one that the environment named.
type PostgresServer struct {
	p        *process // nil when the server is not ours
	admin    *url.URL // of its first database, as superuser
	settings map[string]string
}

// postgresSettings keep the server small and every commit durable.
var postgresSettings = map[string]string{
	"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "shared_buffers": "32MB", "max_connections": "200",
	"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "wal_level": "replica", "hot_standby": "on",
	"max_wal_senders": "8", "wal_keep_size": "64MB", "max_wal_size": "512MB", "jit": "off", "logging_collector": "off",
	"log_destination": "stderr", "log_min_messages": "warning", "log_checkpoints": "off",
}

// StartPostgres initialises and starts a private server. The caller closes it.
func StartPostgres(ctx context.Context, o PostgresOptions) (*PostgresServer, error) {
	s, err := newPostgres(o)
	if err != nil {
		return nil, err
	}
	if err := s.init(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func newPostgres(o PostgresOptions) (*PostgresServer, error) {
	p, err := newProcess(postgresProduct, o.Dir)
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{p: p, settings: maps.Clone(postgresSettings)}
	maps.Copy(s.settings, o.Settings)
	s.settings["port"] = strconv.Itoa(p.port)
	s.admin = &url.URL{Scheme: "postgres", User: url.UserPassword("dash", rand.Text()), Host: s.Addr(), Path: "/postgres", RawQuery: "sslmode=disable"}
	p.args = []string{"-D", p.data()}
	return s, nil
}

// init makes the data folder. It is not synced: only a crash of the machine
// could lose it, and then the test is gone too.
func (s *PostgresServer) init(ctx context.Context) error {
	password, _ := s.admin.User.Password()
	file := filepath.Join(s.p.dir, "password")
	if err := s.p.write(file, password); err != nil {
		return err
	}
	err := s.p.run(ctx, "initdb", nil, "-D", s.p.data(), "-U", "dash", "--pwfile", file, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
	return errors.Join(err, os.Remove(file), s.configure())
}

// configure writes the settings behind those of initdb or the primary.
func (s *PostgresServer) configure() error {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(s.settings[name], "'", "''"))
	}
	return s.p.write(filepath.Join(s.p.data(), "postgresql.conf"), text.String())
}

// URL connects to the first database as superuser.
func (s *PostgresServer) URL() string { return s.admin.String() }

// Addr is host:port.
func (s *PostgresServer) Addr() string {
	if s.p == nil {
		return s.admin.Host
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.p.port))
}

// Start starts a stopped or killed server, on the same port, and returns when
// it takes connections; recovery is over then. A server that ends instead is an
// error with the end of its log.
func (s *PostgresServer) Start(ctx context.Context) error {
	return s.p.start(ctx, func(ctx context.Context) error {
		return s.exec(ctx, "SELECT 1")
	})
}

// Stop shuts the server down and returns when it is gone.
func (s *PostgresServer) Stop(mode StopMode) error {
	if mode == Immediate {
		return s.p.end(syscall.SIGQUIT)
	}
	return s.p.end(syscall.SIGINT)
}

// Kill ends all processes of the server with SIGKILL, the backends too.
func (s *PostgresServer) Kill() error {
	return s.p.kill()
}

// Pause stops all processes of the server (SIGSTOP) until Resume. Connections
// stay open and new ones are taken by the kernel, but nothing is answered.
func (s *PostgresServer) Pause() error {
	return s.p.pause()
}

// Resume ends Pause.
func (s *PostgresServer) Resume() error {
	return s.p.resume()
}

// Set changes a setting that needs no restart, for all databases, and returns
// when the server has read it.
func (s *PostgresServer) Set(ctx context.Context, name, value string) error {
	if s.p == nil {
		return errForeign
	}
	alter := "ALTER SYSTEM SET " + pgx.Identifier{name}.Sanitize() + " = '" + strings.ReplaceAll(value, "'", "''") + "'"
	err := s.connected(ctx, func(c *pgx.Conn) error {
		var loaded time.Time
		if err := c.QueryRow(ctx, "SELECT pg_conf_load_time()").Scan(&loaded); err != nil {
			return err
		}
		for _, sql := range []string{alter, "SELECT pg_reload_conf()"} {
			if _, err := c.Exec(ctx, sql); err != nil {
				return err
			}
		}
		// The postmaster reads it first and then tells the sessions.
		return until(ctx, c, "SELECT pg_conf_load_time() > $1", loaded)
	})
	if err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// Dir is the data folder of a private server.
func (s *PostgresServer) Dir() string { return s.p.data() }

// Log is the end of what a private server wrote to its log.
func (s *PostgresServer) Log() string { return s.p.log() }

// Close ends the server and removes its folder; one that is not ours it leaves
// alone. Idempotent.
func (s *PostgresServer) Close() error {
	return s.p.close(syscall.SIGQUIT)
}

// NewDatabase makes an empty database. drop removes it with all connections to
// it, and does nothing when a private server does not run.
func (s *PostgresServer) NewDatabase(ctx context.Context) (address string, drop func(context.Context) error, err error) {
	name := "dash_" + strings.ToLower(rand.Text())
	if err := s.exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", nil, fmt.Errorf("create a database: %w", err)
	}
	u := *s.admin
	u.Path = "/" + name
	return u.String(), func(ctx context.Context) error {
		if s.p != nil && !s.p.running() {
			return nil
		}
		if err := s.exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			return fmt.Errorf("drop a database: %w", err)
		}
		return nil
	}, nil
}

// exec carries out one statement on a connection of its own.
func (s *PostgresServer) exec(ctx context.Context, sql string) error {
	return s.connected(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, sql)
		return err
	})
}

// until repeats a query until its one column is true.
func until(ctx context.Context, c *pgx.Conn, sql string, args ...any) error {
	for {
		var done bool
		if err := c.QueryRow(ctx, sql, args...).Scan(&done); err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

func (s *PostgresServer) connected(ctx context.Context, f func(*pgx.Conn) error) (err error) {
	c, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	return f(c)
}
