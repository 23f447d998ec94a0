package backup_test

import (
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup/backuptest"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/sqlite"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// TestAcross: a fleet moves to another engine by backup and restore.
func TestAcross(t *testing.T) {
	t.Parallel()
	t.Run("sqlite to postgres", func(t *testing.T) { t.Parallel(); backuptest.Across(t, sqliteEngine{}, postgresEngine{}) })
	t.Run("postgres to sqlite", func(t *testing.T) { t.Parallel(); backuptest.Across(t, postgresEngine{}, sqliteEngine{}) })
}

// must ends the test for an error of what it opens.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func closed[T interface{ Close() error }](t testing.TB, v T) T {
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return v
}

type sqliteEngine struct{}

func (sqliteEngine) New(t testing.TB) backuptest.Store   { return folder(t.TempDir()).Open(t) }
func (sqliteEngine) Blank(t testing.TB) backuptest.Blank { return folder(t.TempDir()) }

type folder string

func (f folder) Target(t testing.TB) persistence.Restorer {
	return must(sqlite.OpenTarget(t.Context(), string(f)))(t)
}

func (f folder) Open(t testing.TB) backuptest.Store {
	return sqliteStore{closed(t, must(sqlite.Open(t.Context(), sqlite.Config{Dir: string(f)}))(t)), string(f)}
}

type sqliteStore struct {
	*sqlite.DB

	dir string
}

func (s sqliteStore) Source(t testing.TB) persistence.Snapshotter {
	return must(sqlite.OpenSource(t.Context(), s.dir))(t)
}

type postgresEngine struct{}

func (postgresEngine) New(t testing.TB) backuptest.Store { return database(t).Open(t) }

func (postgresEngine) Blank(t testing.TB) backuptest.Blank { return database(t) }

type databaseURL string

func database(t testing.TB) databaseURL {
	t.Helper()
	return databaseURL(testserver.Postgres(t).Database(t))
}

func (d databaseURL) config() postgres.Config { return postgres.Config{URL: messages.Secret(d)} }

func (d databaseURL) Target(t testing.TB) persistence.Restorer {
	return must(postgres.OpenTarget(t.Context(), d.config()))(t)
}

func (d databaseURL) Open(t testing.TB) backuptest.Store {
	return postgresStore{closed(t, must(postgres.Open(t.Context(), d.config()))(t)), d}
}

type postgresStore struct {
	*postgres.DB

	url databaseURL
}

func (s postgresStore) Source(t testing.TB) persistence.Snapshotter {
	return must(postgres.OpenSource(t.Context(), s.url.config()))(t)
}
