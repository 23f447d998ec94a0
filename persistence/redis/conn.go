package redis

import (
	"context"
	"crypto/sha1" // #nosec G505 -- the server names scripts by it
	_ "embed"     // the scripts
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Time limits of one command. A healthy server answers within milliseconds;
// rewriting its append-only file can hold it up for a second or two.
const (
	dialTimeout  = 2 * time.Second
	writeLimit   = 3 * time.Second // one attempt of a batch
	readLimit    = 5 * time.Second
	commitBudget = 6 * time.Second // a batch with all its repetitions
)

type script struct{ src, sha string }

func newScript(src string) script {
	sum := sha1.Sum([]byte(src)) // #nosec G401 -- a name, no protection
	return script{src, hex.EncodeToString(sum[:])}
}

//go:embed scripts/commit.lua
var commitSource string

//go:embed scripts/init.lua
var initSource string

//go:embed scripts/settle.lua
var settleSource string

//go:embed scripts/renew.lua
var renewSource string

//go:embed scripts/take.lua
var takeSource string

//go:embed scripts/release.lua
var releaseSource string

//go:embed scripts/recover.lua
var recoverSource string

//go:embed scripts/sweep.lua
var sweepSource string

//go:embed scripts/briefs.lua
var briefsSource string

// scripts holds all scripts under the names the server gives them.
type scripts struct{ commit, init, settle, renew, take, release, sweep, recover, briefs script }

func newScripts() scripts {
	return scripts{
		commit: newScript(commitSource), init: newScript(initSource), settle: newScript(settleSource), renew: newScript(renewSource),
		take: newScript(takeSource), release: newScript(releaseSource), sweep: newScript(sweepSource), recover: newScript(recoverSource),
		briefs: newScript(briefsSource),
	}
}

// options are those of one pool of connections. Nothing is sent twice behind
// our back: repetition of a write is decided where its number is known.
func options(cfg *Config, size int, onConnect func()) (*goredis.Options, error) {
	o, err := goredis.ParseURL(cfg.URL)
	if err != nil {
		// The reason quotes what it could not read, which may be the password.
		return nil, errors.New("the Redis URL cannot be read: write it as redis://user:password@host:6379/0, or rediss:// for TLS; in a password / is %2F, # is %23 and @ is %40")
	}
	o.Protocol = 2
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout = dialTimeout
	o.ReadTimeout, o.WriteTimeout = readLimit, readLimit
	o.ContextTimeoutEnabled = true
	o.PoolSize, o.MaxActiveConns, o.MinIdleConns = size, size, 0
	o.PoolTimeout = readLimit
	o.PipelinePoolSize = -1
	o.DisableIdentity = true
	o.ClientName = "dash"
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.OnConnect = func(context.Context, *goredis.Conn) error {
		onConnect()
		return nil
	}
	return o, nil
}

// eval runs a script by its name and hands it over if the server does not know
// it (any more): an unknown script has done nothing.
func (db *DB) eval(ctx context.Context, c *goredis.Client, s script, args ...any) ([]any, error) {
	call := append([]any{"EVALSHA", s.sha, 1, db.cfg.Prefix}, args...)
	res, err := c.Do(ctx, call...).Result()
	if err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
		if err := c.Do(ctx, "SCRIPT", "LOAD", s.src).Err(); err != nil {
			return nil, err
		}
		res, err = c.Do(ctx, call...).Result()
	}
	if err != nil {
		return nil, err
	}
	if list, ok := res.([]any); ok {
		return list, nil
	}
	return []any{res}, nil
}

func (db *DB) key(name string) string { return db.cfg.Prefix + name }

// readTexts runs a command that answers with texts; what is missing is "".
func (db *DB) readTexts(ctx context.Context, args ...any) ([]string, error) {
	res, err := db.reader.Do(ctx, args...).Result()
	if err != nil && err != goredis.Nil {
		return nil, unavailable(ctx, "read", err)
	}
	return texts(res), nil
}

func texts(res any) []string {
	switch v := res.(type) {
	case []any:
		out := make([]string, len(v))
		for i := range v {
			out[i] = text(v[i])
		}
		return out
	case nil:
		return nil
	}
	return []string{text(res)}
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return fmt.Sprint(v)
	}
	return ""
}

func integer(v any) int64 {
	n, _ := v.(int64)
	return n
}
