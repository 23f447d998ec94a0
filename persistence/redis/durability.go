package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	goredis "github.com/redis/go-redis/v9"
)

// Windows that a flag must at least name for weaker settings.
const (
	windowEverysec = 2 * time.Second  // the server may put an fsync off once
	windowNoFsync  = 30 * time.Second // the kernel's own write-back
	windowNoAOF    = time.Hour        // everything since the newest snapshot
)

// durability is what the server says about keeping what it acknowledges.
type durability struct {
	version, role          string
	known                  bool // CONFIG GET was answered
	aof, fsync, evict      string
	rewrite                string // no-appendfsync-on-rewrite
	aofEnabled, aofWriteOK bool
	run                    string
}

// DurabilityError says why a server is refused and what to set.
type DurabilityError struct {
	Problem string
	Next    string
}

func (e *DurabilityError) Error() string { return "redis: " + e.Problem + "; " + e.Next }

// Unwrap makes the refusal of a server whose settings were changed while Dash
// ran an unavailable store.
func (e *DurabilityError) Unwrap() error { return persistence.ErrUnavailable }

func (db *DB) readDurability(ctx context.Context) (durability, error) {
	info, err := db.reader.Info(ctx, "server", "replication", "persistence").Result()
	if err != nil {
		return durability{}, unavailable(ctx, "read the server's state", err)
	}
	d, err := parseInfo(info)
	if err != nil {
		return d, unavailable(ctx, "read the server's state", err)
	}
	for name, to := range map[string]*string{"appendonly": &d.aof, "appendfsync": &d.fsync, "maxmemory-policy": &d.evict, "no-appendfsync-on-rewrite": &d.rewrite} {
		res, err := db.reader.ConfigGet(ctx, name).Result()
		var server goredis.Error
		switch {
		case errors.As(err, &server):
			return d, nil // a managed server forbids CONFIG
		case err != nil:
			return d, unavailable(ctx, "read the server's settings", err)
		}
		*to = res[name]
	}
	d.known = true
	return d, nil
}

// errLoading is worded as the server words it to other commands.
var errLoading = errors.New("LOADING the server reads its data from disk")

// parseInfo reads what INFO says. While a server loads its data it says that it
// keeps no append-only file, which is not so: errLoading.
func parseInfo(info string) (d durability, err error) {
	for line := range strings.Lines(info) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch k {
		case "redis_version":
			d.version = v
		case "run_id":
			d.run = v
		case "role":
			d.role = v
		case "aof_enabled":
			d.aofEnabled = v == "1"
		case "aof_last_write_status":
			d.aofWriteOK = v == "ok"
		case "loading":
			if v == "1" {
				return d, errLoading
			}
		}
	}
	return d, nil
}

// window is the span of acknowledged writes that a loss of power may take with
// these settings; problem and advice are for the operator. 0: none.
func (d *durability) window() (window time.Duration, problem, advice string) {
	switch {
	case !d.known:
		return time.Second, "it does not let Dash read its durability settings (CONFIG GET is forbidden or unknown)",
			next.AllowConfigGet
	case d.aof != "yes" || !d.aofEnabled:
		return windowNoAOF, "it keeps no append-only file, so what it acknowledged is gone when it stops",
			next.AppendOnly
	case d.fsync == "everysec":
		return windowEverysec, "appendfsync is everysec, so up to two seconds of acknowledged writes are lost with the power",
			next.FsyncAlways
	case d.fsync != "always":
		return windowNoFsync, "appendfsync is " + d.fsync + ", so what the kernel has not written back is lost with the power",
			next.FsyncAlways
	case d.rewrite != "no" && d.rewrite != "":
		return windowNoFsync, "no-appendfsync-on-rewrite is on, so nothing is synced while the append-only file is rewritten",
			next.NoFsyncOnRewrite
	}
	return 0, "", ""
}

// check refuses a server that cannot hold the store, or that may lose more
// than was accepted.
func (d *durability) check(accept time.Duration) error {
	major, minor := version(d.version)
	switch {
	case major < 6 || (major == 6 && minor < 2):
		return &DurabilityError{"version " + d.version + " is too old", next.UseNewerRedis}
	case d.role != "master":
		return &DurabilityError{"this server is a replica (role " + d.role + ")", next.NamePrimary}
	case d.aofEnabled && !d.aofWriteOK:
		return &DurabilityError{"it cannot write its append-only file", next.FreeRedisDisk}
	case d.known && d.evict != "noeviction":
		return &DurabilityError{"maxmemory-policy is " + d.evict + ", so it may throw tasks away",
			next.NoEviction}
	}
	window, problem, advice := d.window()
	switch {
	case window == 0 || (accept > 0 && accept >= window):
		return nil
	case accept > 0:
		return &DurabilityError{problem, fmt.Sprintf(next.OrAcceptMoreLoss, advice, window, accept)}
	}
	return &DurabilityError{problem, fmt.Sprintf(next.OrAcceptLoss, advice, window)}
}

func version(s string) (major, minor int) {
	a, rest, _ := strings.Cut(s, ".")
	b, _, _ := strings.Cut(rest, ".")
	major, _ = strconv.Atoi(a) // not a number counts as too old
	minor, _ = strconv.Atoi(b)
	return major, minor
}

// Loss is the window of acknowledged writes that may be lost.
type Loss struct {
	// Window is 0 if nothing that was acknowledged can be lost.
	Window time.Duration
	// Reason and Next are for the operator; empty when Window is 0.
	Reason, Next string
}

// durableState is what the monitor last saw.
type durableState struct {
	loss  atomic.Pointer[Loss]
	wrong atomic.Pointer[DurabilityError]
}

// set takes over settings that are acceptable.
func (s *durableState) set(d durability, accept time.Duration) {
	l := Loss{}
	if w, problem, advice := d.window(); w > 0 {
		l = Loss{accept, problem, advice}
	}
	s.loss.Store(&l)
	s.wrong.Store(nil)
}

func (s *durableState) refusal() error {
	if e := s.wrong.Load(); e != nil {
		return e
	}
	return nil
}

func (s *durableState) tell(ctx context.Context, log *slog.Logger) {
	if l := s.loss.Load(); l.Window > 0 {
		log.WarnContext(ctx, "redis may lose acknowledged writes; this was accepted", slog.Duration("window", l.Window), slog.String("reason", l.Reason), slog.String("next", l.Next))
	}
}

// Loss tells what may be lost with the server's present settings.
func (db *DB) Loss() Loss {
	if l := db.durable.loss.Load(); l != nil {
		return *l
	}
	return Loss{}
}
