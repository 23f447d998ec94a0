package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says which database to use and how long to wait for it. URL is
// required; all else has defaults.
type Config struct {
	// URL is a PostgreSQL connection string, URL or key=value. It may name
	// several hosts: the one that takes writes is used.
	URL messages.Secret
	// Schema holds all tables; it is made if it is missing. Empty: the first of
	// the role's search_path, which is "public" unless somebody changed it.
	Schema string
	// Readers is the number of connections for reads and repositories; 0: 8.
	Readers int
	// Committers is how many Commits may be under way at once; 0: 2. They are
	// applied one after the other all the same.
	Committers int
	// StatementTimeout ends a statement on the server; keep it below the leases'
	// TTL. 0: 1.5 s.
	StatementTimeout time.Duration
	// ConnectTimeout bounds one attempt to connect to one host. 0: 2 s.
	ConnectTimeout time.Duration
	// DeadAfter is after how long without an acknowledgement a connection counts
	// as dead (TCP_USER_TIMEOUT, keepalive); the deadline of one round trip is
	// StatementTimeout more. 0: 4 s.
	DeadAfter time.Duration
	// AcceptLoss works with a server that may lose what it acknowledges.
	AcceptLoss bool
	// WatchEvery is the pause between two looks at the server's settings. 0: 10 s.
	WatchEvery time.Duration
	// Logger and Registerer may be nil.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,40}$`)

func (c Config) withDefaults() (Config, error) {
	if c.URL.Empty() {
		return c, errors.New("open store: no PostgreSQL URL given; set one like postgres://dash:secret@db.example:5432/dash")
	}
	if c.Schema != "" && !schemaName.MatchString(c.Schema) {
		return c, fmt.Errorf("open store: %q is no schema name: use lower-case letters, digits and _", c.Schema)
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&c.StatementTimeout, 1500 * time.Millisecond}, {&c.ConnectTimeout, 2 * time.Second}, {&c.DeadAfter, 4 * time.Second}, {&c.WatchEvery, 10 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if c.Readers <= 0 {
		c.Readers = 8
	}
	if c.Committers <= 0 {
		c.Committers = 2
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// roundTrip is the deadline of one request and its answer.
func (c *Config) roundTrip() time.Duration { return c.StatementTimeout + c.DeadAfter }

// connConfig is what all connections have in common. The text of the URL never
// comes back in an error: it holds the password.
func (c *Config) connConfig(params map[string]string) (*pgx.ConnConfig, error) {
	cc, err := pgx.ParseConfig(c.URL.Reveal())
	if err != nil {
		return nil, errors.New("open store: the PostgreSQL URL cannot be read: write it as postgres://user:password@host:5432/database?sslmode=verify-full")
	}
	c.apply(&cc.Config, params)
	return cc, nil
}

// pool opens a pool of at most n connections. It does not connect yet.
func (c *Config) pool(ctx context.Context, n int, timeout time.Duration, params map[string]string, prepare func(context.Context, *pgx.Conn) error) (*pgxpool.Pool, error) {
	pc, err := pgxpool.ParseConfig(c.URL.Reveal())
	if err != nil {
		return nil, errors.New("open store: the PostgreSQL URL cannot be read")
	}
	all := map[string]string{
		"statement_timeout": millis(timeout), "lock_timeout": millis(timeout), "idle_in_transaction_session_timeout": millis(timeout),
	}
	maps.Copy(all, params)
	c.apply(&pc.ConnConfig.Config, all)
	pc.MaxConns, pc.MinConns, pc.MinIdleConns = int32(n), 0, 0
	pc.MaxConnIdleTime = 5 * time.Minute
	pc.AfterConnect = prepare
	return pgxpool.NewWithConfig(ctx, pc)
}

func millis(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }

// dialer notices a peer that has gone without a word: what was sent must be
// acknowledged, and an idle connection must answer probes, within DeadAfter.
func (c *Config) dialer() *net.Dialer {
	probe := max(c.DeadAfter/4, time.Second)
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probe, Interval: probe, Count: 3},
		Control:         userTimeout(c.DeadAfter),
	}
}

// host names the server for logs and errors, without user and password.
func host(cc *pgx.ConnConfig) string {
	list := []string{net.JoinHostPort(cc.Host, strconv.Itoa(int(cc.Port)))}
	for _, f := range cc.Fallbacks {
		if h := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))); h != list[len(list)-1] {
			list = append(list, h)
		}
	}
	return strings.Join(list, ",") + "/" + cc.Database
}
