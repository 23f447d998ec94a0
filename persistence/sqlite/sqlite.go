package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/room"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/messages"
)

// FileName is the database inside the data folder.
const FileName = "dash.db"

// Config says where the store lives. Dir is required; all else has defaults.
type Config struct {
	// Dir is the data folder. It is made with mode 0700 if it is missing.
	Dir string
	// Readers is the number of read connections; 0: 4.
	Readers int
	// CacheTasks bounds the tasks in no terminal state whose compare fields are
	// kept in memory, about 150 bytes each; 0: 262144. A task beyond it costs
	// one more read per write.
	CacheTasks int
	// WALBytes bounds the write-ahead log: past it the next commit waits until
	// the log was copied into the database; 0: 64 MiB, on a small disk less.
	WALBytes int64
	// Logger and Registerer may be nil.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("open store: no data folder given; set --data")
	}
	abs, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("open store: %w", err)
	}
	c.Dir = abs
	if c.Readers <= 0 {
		c.Readers = 4
	}
	if c.CacheTasks <= 0 {
		c.CacheTasks = 1 << 18
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// DB is an open store. Its methods are safe for concurrent use.
type DB struct {
	cfg     Config
	lock    *os.File
	read    *sql.DB
	w       *writer
	nodes   nodes
	metrics *metrics
	ckpt    *checkpointer
	room    *room.Watch
	close   sync.Once
	closed  error
}

var _ persistence.Store = (*DB)(nil)

// Open takes the data folder for this process, brings the schema up to date
// and returns the store. Whatever an earlier process owned has no owner
// afterwards. A folder in use gives a *LockedError, one that holds less than it
// has acknowledged a *LostError, and damage that is found a *DamagedError.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	lock, unclean, err := prepareDir(cfg.Dir)
	if err != nil {
		return nil, asFull(cfg.Dir, err)
	}
	cfg.WALBytes = logBound(cfg.Dir, cfg.WALBytes)
	db := &DB{cfg: cfg, lock: lock}
	if err := db.open(ctx, unclean); err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", cfg.Dir, asFull(cfg.Dir, asDamage(err))), db.Close())
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, unclean bool) (err error) {
	if unclean {
		if err := checkPages(ctx, db.cfg); err != nil {
			return err
		}
	}
	if err := ensureSchema(ctx, db.cfg.Dir); err != nil {
		return err
	}
	db.metrics = newMetrics(db.cfg.Registerer, db.cfg.Dir)
	if db.w, err = newWriter(ctx, db.cfg, db.metrics); err != nil {
		return err
	}
	if db.read, err = sql.Open("sqlite", dsn(db.cfg.Dir, readerPragmas)); err != nil {
		return err
	}
	db.read.SetMaxOpenConns(db.cfg.Readers)
	db.read.SetMaxIdleConns(db.cfg.Readers)
	if err := db.read.PingContext(ctx); err != nil {
		return err
	}
	if db.ckpt, err = startCheckpointer(ctx, db.cfg, db.w); err != nil {
		return err
	}
	db.room = room.Start(ctx, room.Every, db.probeRoom, db.cfg.Logger, db.cfg.Registerer)
	return nil
}

// Store returns the fenced half of the store.
func (db *DB) Store() persistence.Store { return db }

// Repositories returns the configuration half of the store.
func (db *DB) Repositories() persistence.Repositories {
	return persistence.Repositories{
		Gateways: gateways{db}, Pools: pools{db}, Keys: keys{db},
		Users: users{db}, LoginSessions: loginSessions{db}, Tenants: tenants{db}, Audit: audit{db},
	}
}

// Close waits for the commit under way, ends the checkpointer, closes all
// connections and gives the folder back. It may be called twice.
func (db *DB) Close() error {
	db.close.Do(func() {
		var errs []error
		if db.room != nil {
			db.room.Stop()
		}
		if db.ckpt != nil {
			errs = append(errs, db.ckpt.stop())
		}
		if db.read != nil {
			errs = append(errs, db.read.Close())
		}
		if db.w != nil {
			errs = append(errs, db.w.close())
		}
		if db.metrics != nil {
			db.metrics.Unregister()
		}
		db.closed = errors.Join(append(errs, unlock(db.lock))...)
	})
	return db.closed
}

// Ping proves that the store can take a write now: it commits a batch without ops.
func (db *DB) Ping(ctx context.Context) error {
	_, err := db.Commit(ctx, nil)
	return err
}

// prepareDir makes the folder, locks it, makes the database file private before
// SQLite would create it with the umask's mode, and secures the log that an
// unclean stop has left.
func prepareDir(dir string) (lock *os.File, unclean bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, fmt.Errorf("open store: make data folder: %w", err)
	}
	if lock, err = lockDir(dir); err != nil {
		return nil, false, err
	}
	f, err := os.OpenFile(filepath.Join(dir, FileName), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(f.Chmod(0o600), f.Close())
	}
	if err == nil {
		unclean, err = secureLog(dir)
	}
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("open store: %w", err), unlock(lock))
	}
	return lock, unclean, nil
}

// Pragmas of the connections. The checkpointer copies the log, never a commit.
var (
	writerPragmas = []string{
		"busy_timeout(100)", "page_size(8192)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
		"wal_autocheckpoint(0)", "cache_size(-16384)", "temp_store(2)",
		"fullfsync(1)", // where fsync alone leaves it to the drive, as on macOS
	}
	readerPragmas = []string{"busy_timeout(5000)", "query_only(1)", "cache_size(-16384)", "temp_store(2)"}
	ckptPragmas   = []string{"busy_timeout(0)", "synchronous(FULL)", "wal_autocheckpoint(0)", "fullfsync(1)", "checkpoint_fullfsync(1)"}
)

func dsn(dir string, pragmas []string) string {
	u := url.URL{Path: filepath.Join(dir, FileName)}
	return "file:" + u.EscapedPath() + "?_pragma=" + strings.Join(pragmas, "&_pragma=")
}

// micros is how times are stored: microseconds since 1970, 0 for "not set".
func micros(t time.Time) int64 { return messages.Micros(t) }

func fromMicros(n int64) time.Time { return messages.FromMicros(n) }
