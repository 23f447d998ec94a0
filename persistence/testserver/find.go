package testserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Names of the environment variables that choose servers.
const (
	envPostgresURL = "DASH_TEST_POSTGRES_URL"
	envPostgresBin = "DASH_TEST_POSTGRES_BIN"
	envRedisURL    = "DASH_TEST_REDIS_URL"
	envRedisBin    = "DASH_TEST_REDIS_BIN"
)

// MissingError says that a server cannot be had on this machine.
type MissingError struct{ What, Next string }

func (e *MissingError) Error() string {
	return "infrastructure missing: " + e.What + " (" + e.Next + ")"
}

// product is what a kind of server consists of.
type product struct {
	name, program string   // as people and files call it
	also          []string // other programs that must lie beside it
	binEnv        string
	globs         []string // folders of distributions
	image         string
}

var (
	postgresProduct = product{name: "PostgreSQL", program: "postgres", also: []string{"initdb", "pg_basebackup"}, binEnv: envPostgresBin, image: "postgres:17",
		globs: []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin"}}
	redisProduct = product{name: "Redis", program: "redis-server", binEnv: envRedisBin, image: "redis:7"}
)

// source is where programs run: in a folder of this machine or in an image.
type source struct{ bin, image string }

// find looks for installed programs, then for Docker.
func (p product) find() (source, error) {
	if bin, ok := p.folder(); ok {
		return source{bin: bin}, nil
	}
	if p.image == "" {
		return source{}, &MissingError{What: p.name, Next: fmt.Sprintf("no %s found; install it, or run .ci/need %s as root", p.program, p.program)}
	}
	if err := docker(); err != nil {
		return source{}, &MissingError{What: p.name,
			Next: fmt.Sprintf("no %s found, and %v; install it, or run .ci/need as root", p.program, err)}
	}
	return source{image: p.image}, nil
}

// folder is the first that holds all programs of the product.
func (p product) folder() (string, bool) {
	for _, dir := range p.folders() {
		if !slices.ContainsFunc(append([]string{p.program}, p.also...), func(name string) bool {
			_, err := exec.LookPath(filepath.Join(dir, name))
			return err != nil
		}) {
			return dir, true
		}
	}
	return "", false
}

// folders lists where to look, best first. PATH may hold links to some of the
// programs only.
func (p product) folders() []string {
	if dir, ok := os.LookupEnv(p.binEnv); ok {
		return []string{dir}
	}
	var all []string
	if path, err := exec.LookPath(p.program); err == nil {
		all = append(all, filepath.Dir(path))
		if real, err := filepath.EvalSymlinks(path); err == nil {
			all = append(all, filepath.Dir(real))
		}
	}
	for _, glob := range p.globs {
		dirs, _ := filepath.Glob(glob) // a constant: it cannot be malformed
		slices.SortFunc(dirs, func(a, b string) int { return compareVersions(b, a) })
		all = append(all, dirs...)
	}
	return all
}

// compareVersions orders paths that differ in a number: 9 before 15.
func compareVersions(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// docker probes the daemon once per process; a client without one may hang.
var docker = sync.OnceValue(func() error {
	if _, err := exec.LookPath("docker"); err != nil {
		return errors.New("no docker either")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := exec.CommandContext(ctx, "docker", "info").Run(); err != nil {
		return errors.New("the docker daemon does not answer")
	}
	return nil
})

// account is the user that servers run as; nil is our own.
type account struct{ uid, gid int }

// unprivileged is the account for a process of root.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil {
			return &account{uid: uid, gid: gid}, nil
		}
	}
	return nil, &MissingError{What: "an unprivileged user to run servers as", Next: "PostgreSQL refuses root; add the user nobody"}
}

func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// folder makes a folder for a server below parent, or in the first folder for
// temporary files that the account can reach.
func (a *account) folder(parent, pattern string) (string, error) {
	parents := []string{parent}
	if parent == "" {
		parents = []string{os.TempDir(), "/tmp", "/var/tmp"}
	}
	var reason error
	for _, p := range parents {
		if reason = a.reaches(p); reason != nil {
			continue
		}
		dir, err := os.MkdirTemp(p, pattern)
		if err != nil {
			return "", fmt.Errorf("make a folder for a test server: %w", err)
		}
		if a != nil {
			if err := os.Chown(dir, a.uid, a.gid); err != nil {
				return "", errors.Join(fmt.Errorf("give a folder to the test server's user: %w", err), os.Remove(dir))
			}
		}
		return dir, nil
	}
	return "", reason
}

// reaches checks that every folder on the way may be entered by everybody.
func (a *account) reaches(dir string) error {
	path, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("folder of a test server: %w", err)
	}
	for a != nil {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("folder of a test server: %w", err)
		}
		if info.Mode().Perm()&1 == 0 {
			return fmt.Errorf("%s is closed to the user that the server runs as: choose a folder below /tmp", path)
		}
		if path == filepath.Dir(path) {
			break
		}
		path = filepath.Dir(path)
	}
	return nil
}
