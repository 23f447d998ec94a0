package testserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

var pgbouncerProduct = product{name: "PgBouncer", program: "pgbouncer", binEnv: "DASH_TEST_PGBOUNCER_BIN", globs: []string{"/usr/sbin", "/usr/local/sbin"}}

// PgBouncer is a pooler in front of a private server.
type PgBouncer struct {
	p      *process
	server *PostgresServer
}

// StartPgBouncer starts a pooler in front of server; mode is its pool_mode. The
// caller closes it.
func StartPgBouncer(ctx context.Context, server *PostgresServer, mode string) (*PgBouncer, error) {
	if server.p == nil {
		return nil, errForeign
	}
	p, err := newProcess(pgbouncerProduct, "")
	if err != nil {
		return nil, err
	}
	b := &PgBouncer{p: p, server: server}
	if err := b.start(ctx, mode); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *PgBouncer) start(ctx context.Context, mode string) error {
	password, _ := b.server.admin.User.Password()
	users := filepath.Join(b.p.dir, "users.txt")
	if err := b.p.write(users, fmt.Sprintf("%q %q\n", b.server.admin.User.Username(), password)); err != nil {
		return err
	}
	conf := filepath.Join(b.p.dir, "pgbouncer.ini")
	text := strings.Join([]string{
		"[databases]", "* = host=127.0.0.1 port=" + strconv.Itoa(b.server.p.port),
		"[pgbouncer]", "listen_addr = 127.0.0.1", "listen_port = " + strconv.Itoa(b.p.port), "unix_socket_dir =",
		"auth_type = scram-sha-256", "auth_file = " + users, "pool_mode = " + mode, "default_pool_size = 40", "max_client_conn = 200", "",
	}, "\n")
	if err := b.p.write(conf, text); err != nil {
		return err
	}
	b.p.args = []string{conf}
	return b.p.start(ctx, func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, b.through(b.server.admin))
		if err != nil {
			return err
		}
		return c.Close(ctx)
	})
}

// URL is that of a database of the server, by way of the pooler.
func (b *PgBouncer) URL(database string) (string, error) {
	u, err := url.Parse(database)
	if err != nil {
		return "", fmt.Errorf("URL of a database: %w", err)
	}
	return b.through(u), nil
}

func (b *PgBouncer) through(database *url.URL) string {
	u := *database
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(b.p.port))
	return u.String()
}

// Close ends the pooler and removes its folder. Idempotent.
func (b *PgBouncer) Close() error { return b.p.close(syscall.SIGTERM) }

// NewPgBouncer is a pooler for a test, closed at its end.
func NewPgBouncer(t testing.TB, server *PostgresServer, mode string) *PgBouncer {
	t.Helper()
	b, err := StartPgBouncer(t.Context(), server, mode)
	fatal(t, err)
	t.Cleanup(func() { closeAtEnd(t, b.Close) })
	return b
}
