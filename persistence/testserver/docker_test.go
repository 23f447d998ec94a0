package testserver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dash-fleet/dash/persistence/testserver"
)

// inDocker takes servers from Docker through all their states. It runs in a
// process of its own, see TestMain, because the environment chooses the source.
func inDocker() error {
	ctx := context.Background()
	pg, err := testserver.StartPostgres(ctx, testserver.PostgresOptions{})
	if err != nil {
		return err
	}
	replica, err := testserver.StartReplica(ctx, pg, testserver.ReplicaOptions{Synchronous: true})
	if err != nil {
		return errors.Join(err, pg.Close())
	}
	redis, err := testserver.StartRedis(ctx, testserver.RedisOptions{})
	if err != nil {
		return errors.Join(err, replica.Close(), pg.Close())
	}
	set := func() error { _, err := redis.Do(ctx, "SET", "k", "v"); return err }
	get := func() error {
		if v, err := redis.Do(ctx, "GET", "k"); err != nil || v != "v" {
			return fmt.Errorf("k is %q: %w", v, err)
		}
		return nil
	}
	for i, step := range []func() error{
		func() error { return replica.Promote(ctx) },
		func() error { return pg.Set(ctx, "synchronous_standby_names", "") },
		pg.Pause, pg.Resume, pg.Kill, func() error { return pg.Start(ctx) },
		func() error { return pg.Stop(testserver.Fast) }, func() error { return pg.Start(ctx) },
		func() error { _, drop, err := pg.NewDatabase(ctx); return errors.Join(err, drop(ctx)) },
		set, redis.Kill, func() error { return redis.Start(ctx) }, get,
		redis.Stop, func() error { return redis.Start(ctx) }, get,
		redis.Pause, redis.Close, replica.Close, pg.Close,
	} {
		if err := step(); err != nil {
			return errors.Join(fmt.Errorf("step %d: %w", i, err), redis.Close(), replica.Close(), pg.Close())
		}
	}
	return nil
}

// TestDockerIsUsed: with no programs of our own the calls of docker are right,
// as far as a stand-in for it can tell.
func TestDockerIsUsed(t *testing.T) {
	t.Parallel()
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	bin, installed := postgresFolder()
	if !installed {
		t.Log("nothing is installed here: the other tests have used Docker itself")
		return
	}
	state := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(nowhere(t), envOwner+"=docker", "STANDIN_STATE="+state, "STANDIN_BIN="+bin, "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	left, err := os.ReadDir(state)
	if err != nil || len(left) > 0 {
		t.Errorf("containers are left: %v, %v", left, err)
	}
}

// postgresFolder is where this machine's programs are, for the stand-in.
func postgresFolder() (string, bool) {
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin"} {
		if dirs, err := filepath.Glob(pattern); err == nil && len(dirs) > 0 {
			return dirs[len(dirs)-1], true
		}
	}
	path, err := exec.LookPath("pg_basebackup")
	return filepath.Dir(path), err == nil
}
