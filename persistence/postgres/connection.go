package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages/next"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// first are the parameters that go into the start-up message. A pooler knows
// these and refuses, or drops, any other.
var first = []string{"application_name", "timezone", "client_encoding", "options", "replication"}

// apply makes cc a connection of Dash: its parameters are those of the URL and
// params, set and read back once the connection is there.
func (c *Config) apply(cc *pgconn.Config, params map[string]string) {
	cc.ConnectTimeout = c.ConnectTimeout
	cc.DialFunc = c.dialer().DialContext
	at := map[string]string{"application_name": "dash"}
	later := map[string]string{}
	maps.Copy(later, cc.RuntimeParams)
	if c.Schema != "" {
		later["search_path"] = c.Schema
	}
	maps.Copy(later, params)
	later["timezone"], later["client_encoding"] = "UTC", "UTF8"
	for _, name := range first {
		if v, ok := later[name]; ok && v != "" {
			at[name] = v
		}
		delete(later, name)
	}
	cc.RuntimeParams = at
	if cc.ValidateConnect == nil {
		cc.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	cc.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		ctx, cancel := context.WithTimeout(ctx, c.roundTrip())
		defer cancel()
		return c.ready(ctx, conn, later)
	}
}

// ready sets the parameters of a new connection, and reads back in a second
// statement whether it is the same session that has them.
func (c *Config) ready(ctx context.Context, conn *pgconn.PgConn, params map[string]string) error {
	names := slices.Sorted(maps.Keys(params))
	set := []string{"pg_backend_pid()::text", raiseSyncCommit}
	get := []string{"pg_backend_pid()::text", "current_setting('synchronous_commit')"}
	for _, n := range names {
		set = append(set, fmt.Sprintf("set_config(%s, %s, false)", quote(n), quote(params[n])))
		get = append(get, fmt.Sprintf("current_setting(%s)", quote(n)))
	}
	want, err := one(ctx, conn, "SELECT "+strings.Join(set, ", "))
	if err != nil {
		return fmt.Errorf("set up the connection: %w", err)
	}
	got, err := one(ctx, conn, "SELECT "+strings.Join(append(get, "current_setting('fsync')", "current_setting('full_page_writes')"), ", "))
	if err != nil {
		return fmt.Errorf("read the connection's settings back: %w", err)
	}
	n := len(want)
	if !slices.Equal(want, got[:n]) {
		return &PoolingError{}
	}
	if problem := wrongSettings(got[n], got[n+1]); problem != nil && !c.AcceptLoss {
		return problem
	}
	return nil
}

// raiseSyncCommit has a session wait for the disk. It states what is already
// enough as well: a session that has not said it follows the next reload.
const raiseSyncCommit = `set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' WHEN 'local' THEN 'on' ELSE current_setting('synchronous_commit') END, false)`

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// one runs a statement of one row of texts.
func one(ctx context.Context, conn *pgconn.PgConn, sql string) ([]string, error) {
	res, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(res) != 1 || len(res[0].Rows) != 1 {
		return nil, errShort
	}
	row := make([]string, len(res[0].Rows[0]))
	for i, v := range res[0].Rows[0] {
		row[i] = string(v)
	}
	return row, nil
}

// PoolingError refuses a way to the server on which a session's settings,
// prepared statements and notices do not stay with it.
type PoolingError struct{}

func (e *PoolingError) Error() string {
	return "a pooler between Dash and PostgreSQL gives each transaction another session (pool_mode transaction or statement)"
}

// Next says what an operator does about it.
func (e *PoolingError) Next() string { return next.PoolSessions }

// keepsSessions proves that two connections are two sessions of the server and
// stay so: a pooler of transactions gives an idle client's session to the next.
func keepsSessions(ctx context.Context, cc *pgx.ConnConfig, limit time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var conns [2]*pgconn.PgConn
	var pids [2]map[string]bool
	for i := range conns {
		if conns[i], err = pgconn.ConnectConfig(ctx, &cc.Config); err != nil {
			return connectError(cc, err)
		}
		defer func() { _ = conns[i].Close(context.WithoutCancel(ctx)) }() // what counts was said before
		pids[i] = map[string]bool{}
	}
	look := func(i int) error {
		row, err := one(ctx, conns[i], "SELECT pg_backend_pid()::text")
		if err == nil {
			pids[i][row[0]] = true
		}
		return err
	}
	do := func(i int, sql string) error { return conns[i].Exec(ctx, sql).Close() }
	// Until its end a transaction keeps the session that it got.
	for _, step := range []func() error{
		func() error { return look(0) }, func() error { return do(1, "BEGIN") }, func() error { return look(1) },
		func() error { return look(0) }, func() error { return do(1, "ROLLBACK") },
		func() error { return look(0) }, func() error { return look(1) }, func() error { return look(0) }, func() error { return look(1) },
	} {
		if err := step(); err != nil {
			if strings.Contains(err.Error(), "statement pooling") {
				return &PoolingError{}
			}
			return unavailable("look which session this is", err)
		}
	}
	for p := range pids[0] {
		if len(pids[0]) > 1 || len(pids[1]) > 1 || pids[1][p] {
			return &PoolingError{}
		}
	}
	return nil
}
