package testserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/persistence/testserver"
)

// envOwner makes this test's program a process that owns servers: it starts the
// kind that the variable names, prints their addresses and folders, and waits.
const envOwner = "DASH_TESTSERVER_OWNER"

func own() int {
	ctx := context.Background()
	var err error
	switch os.Getenv(envOwner) {
	case "postgres":
		var s *testserver.PostgresServer
		if s, err = testserver.StartPostgres(ctx, testserver.PostgresOptions{}); err == nil {
			fmt.Println(s.Addr(), filepath.Dir(s.Dir()))
		}
	case "paused postgres":
		var s *testserver.PostgresServer
		if s, err = testserver.StartPostgres(ctx, testserver.PostgresOptions{}); err == nil {
			err = s.Pause()
			fmt.Println(s.Addr(), filepath.Dir(s.Dir()))
		}
	case "redis":
		var s *testserver.RedisServer
		if s, err = testserver.StartRedis(ctx, testserver.RedisOptions{}); err == nil {
			fmt.Println(s.Addr(), filepath.Dir(s.Dir()))
		}
	}
	if os.Getenv(envOwner) == "docker" {
		if err = inDocker(); err == nil {
			return 0
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	time.Sleep(time.Minute) // killed long before
	return 0
}

// TestServersEndWithTheirOwner: a killed owner leaves no process and no folder.
func TestServersEndWithTheirOwner(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"postgres", "paused postgres", "redis"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), envOwner+"="+kind)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			fields := strings.Fields(line)
			if err != nil || len(fields) != 2 {
				t.Fatalf("the owner said %q, %v", line, err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // killed
			for deadline := time.Now().Add(30 * time.Second); left(fields[0], fields[1]); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("still there 30 s after its owner was killed: %s", line)
				}
			}
		})
	}
}

// left reports whether a server listens or its folder is there, under either name.
func left(addr, dir string) bool {
	for _, d := range []string{dir, dir + ".end"} {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// nowhere is an environment in which no server can be had: no programs, a
// docker that fails, an apt-get that fails.
func nowhere(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"docker", "apt-get"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "DASH_TEST_POSTGRES_URL=", "DASH_TEST_REDIS_URL=",
		"DASH_TEST_POSTGRES_BIN="+dir, "DASH_TEST_REDIS_BIN="+dir)
}

// TestMissingIsSaid: by the package, and by what make test calls first.
func TestMissingIsSaid(t *testing.T) {
	t.Parallel()
	env := nowhere(t)
	for kind, name := range map[string]string{"postgres": "PostgreSQL", "redis": "Redis"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(env, envOwner+"="+kind)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), "infrastructure missing: "+name) {
			t.Errorf("%s without a server: %v: %s", kind, err, out)
		}
		cmd = exec.CommandContext(t.Context(), "../../.ci/need", kind)
		cmd.Env = env
		out, err = cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 69 || !strings.Contains(string(out), "infrastructure missing: "+name) {
			t.Errorf(".ci/need %s: %v: %s", kind, err, out)
		}
	}
}

// TestNeedTakesWhatIsThere: with the servers of this machine nothing is installed.
func TestNeedTakesWhatIsThere(t *testing.T) {
	t.Parallel()
	testserver.Postgres(t)
	testserver.Redis(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte("#!/bin/sh\necho called\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "../../.ci/need", "postgres", "redis")
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf(".ci/need: %v: %s", err, out)
	}
}

// TestForeignServer: a running server that the environment names is used, gives
// each test its own database and is never stopped.
func TestForeignServer(t *testing.T) {
	pg, redis := testserver.NewPostgres(t, testserver.PostgresOptions{}), testserver.NewRedis(t, testserver.RedisOptions{})
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "Apart$", "-test.v")
	cmd.Env = append(os.Environ(), "DASH_TEST_POSTGRES_URL="+pg.URL(), "DASH_TEST_REDIS_URL="+redis.URL())
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") < 2 {
		t.Fatalf("%v: %s", err, out)
	}
	if keys := do(t, redis, "DBSIZE"); keys != "0" {
		t.Errorf("%s claims are left", keys)
	}
	var databases int
	if err := connect(t, pg.URL()).QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname LIKE 'dash\\_%'").Scan(&databases); err != nil || databases != 0 {
		t.Errorf("%d databases are left, %v", databases, err)
	}
	if claims := do(t, redis, "INFO", "commandstats"); !strings.Contains(claims, "cmdstat_flushdb") {
		t.Error("the named server was not used")
	}
}
