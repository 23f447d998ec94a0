package testserver

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RedisOptions of a private server.
type RedisOptions struct {
	Dir      string            // parent of the server's folder; "" for the one of temporary files
	Settings map[string]string // in redis.conf, on top of the defaults of this package
}

// RedisServer is a private server, or a running one that the environment named.
type RedisServer struct {
	p     *process // nil when the server is not ours
	admin *url.URL // of database 0
	dbs   int      // number of databases
}

// redisSettings make every write durable before it is answered.
var redisSettings = map[string]string{
	"bind": "127.0.0.1", "appendonly": "yes", "appendfsync": "always", "save": `""`, "databases": "1024", "daemonize": "no", "loglevel": "notice",
}

// StartRedis starts a private server. The caller closes it.
func StartRedis(ctx context.Context, o RedisOptions) (*RedisServer, error) {
	p, err := newProcess(redisProduct, o.Dir)
	if err != nil {
		return nil, err
	}
	s := &RedisServer{p: p, dbs: 1024}
	if err := s.init(o.Settings); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *RedisServer) init(settings map[string]string) error {
	if err := os.Mkdir(s.p.data(), 0o700); err != nil {
		return fmt.Errorf("make the folder of Redis: %w", err)
	}
	if s.p.account != nil {
		if err := os.Chown(s.p.data(), s.p.account.uid, s.p.account.gid); err != nil {
			return fmt.Errorf("make the folder of Redis: %w", err)
		}
	}
	all := maps.Clone(redisSettings)
	maps.Copy(all, settings)
	password := rand.Text()
	all["port"], all["dir"], all["requirepass"] = strconv.Itoa(s.p.port), s.p.data(), password
	if n, err := strconv.Atoi(all["databases"]); err == nil {
		s.dbs = n
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s %s\n", name, all[name])
	}
	conf := filepath.Join(s.p.dir, "redis.conf")
	s.p.args = []string{conf}
	s.admin = &url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: s.Addr(), Path: "/0"}
	return s.p.write(conf, text.String())
}

// URL names database 0.
func (s *RedisServer) URL() string { return s.admin.String() }

// Addr is host:port.
func (s *RedisServer) Addr() string {
	if s.p == nil {
		return s.admin.Host
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.p.port))
}

// Start starts a stopped or killed server, on the same port, and returns when
// it has loaded its data. A server that ends instead, as it does on a damaged
// AOF, is an error with the end of its log.
func (s *RedisServer) Start(ctx context.Context) error {
	return s.p.start(ctx, func(ctx context.Context) error {
		return s.session(ctx, func(do func(...string) (string, error)) error {
			_, err := do("PING")
			return err
		})
	})
}

// Stop shuts the server down in order (SIGTERM) and returns when it is gone.
func (s *RedisServer) Stop() error {
	return s.p.end(syscall.SIGTERM)
}

// Kill ends the server with SIGKILL.
func (s *RedisServer) Kill() error {
	return s.p.kill()
}

// Pause stops the server (SIGSTOP) until Resume. Connections stay open and new
// ones are taken by the kernel, but nothing is answered.
func (s *RedisServer) Pause() error {
	return s.p.pause()
}

// Resume ends Pause.
func (s *RedisServer) Resume() error {
	return s.p.resume()
}

// Dir is the data folder of a private server.
func (s *RedisServer) Dir() string { return s.p.data() }

// AOFFiles are the paths of the append-only files of a private server, the one
// that grows last: of Redis 7 the base and the increments, not the manifest;
// of older ones the single file.
func (s *RedisServer) AOFFiles() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.Dir(), "appendonlydir", "*.aof"))
	if err != nil {
		return nil, fmt.Errorf("list append-only files: %w", err)
	}
	slices.SortFunc(files, func(a, b string) int {
		// appendonly.aof.1.base.rdb, appendonly.aof.10.incr.aof: longer names are newer
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	base, err := filepath.Glob(filepath.Join(s.Dir(), "appendonlydir", "*.rdb"))
	if err != nil {
		return nil, fmt.Errorf("list append-only files: %w", err)
	}
	files = append(base, files...)
	if len(files) == 0 {
		files, err = filepath.Glob(filepath.Join(s.Dir(), "*.aof"))
		if err != nil {
			return nil, fmt.Errorf("list append-only files: %w", err)
		}
	}
	return files, nil
}

// Log is the end of what a private server wrote to its log.
func (s *RedisServer) Log() string { return s.p.log() }

// Close ends the server and removes its folder; one that is not ours it leaves
// alone. Idempotent.
func (s *RedisServer) Close() error {
	return s.p.close(syscall.SIGKILL)
}

// Do carries out one command in database 0 on a connection of its own and
// returns its answer: the text of a string or number, "" for nil, the elements
// of an array as lines. It is for commands about the server.
func (s *RedisServer) Do(ctx context.Context, args ...string) (string, error) {
	var answer string
	err := s.session(ctx, func(do func(...string) (string, error)) (err error) {
		answer, err = do(args...)
		return err
	})
	return answer, err
}

// NewDatabase takes an empty database number that no other test has, also of
// other processes. drop empties it and gives it back, and does nothing when a
// private server does not run. Only a number that was taken is ever flushed.
func (s *RedisServer) NewDatabase(ctx context.Context) (address string, drop func(context.Context) error, err error) {
	for n := 1; n < s.dbs; n++ {
		number, claim := strconv.Itoa(n), "dash-testserver:"+strconv.Itoa(n)
		taken, err := s.Do(ctx, "SET", claim, strconv.Itoa(os.Getpid()), "NX", "EX", "7200")
		if err != nil {
			return "", nil, fmt.Errorf("take a Redis database: %w", err)
		}
		if taken == "" {
			continue
		}
		if err := s.flush(ctx, number); err != nil {
			return "", nil, err
		}
		u := *s.admin
		u.Path = "/" + number
		return u.String(), func(ctx context.Context) error {
			if s.p != nil && !s.p.running() {
				return nil
			}
			_, err := s.Do(ctx, "DEL", claim)
			return errors.Join(s.flush(ctx, number), err)
		}, nil
	}
	return "", nil, fmt.Errorf("take a Redis database: all %d are taken by other tests; keys dash-testserver:* in database 0 say by whom", s.dbs-1)
}

func (s *RedisServer) flush(ctx context.Context, number string) error {
	err := s.session(ctx, func(do func(...string) (string, error)) error {
		if _, err := do("SELECT", number); err != nil {
			return err
		}
		_, err := do("FLUSHDB")
		return err
	})
	if err != nil {
		return fmt.Errorf("empty Redis database %s: %w", number, err)
	}
	return nil
}

// session opens an authenticated connection for f.
func (s *RedisServer) session(ctx context.Context, f func(do func(...string) (string, error)) error) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // everything was answered, or the answer is an error already
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(stopTimeout)
	}
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	r := bufio.NewReader(c)
	do := func(args ...string) (string, error) {
		var b strings.Builder
		fmt.Fprintf(&b, "*%d\r\n", len(args))
		for _, a := range args {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
		}
		if _, err := io.WriteString(c, b.String()); err != nil {
			return "", err
		}
		return reply(r)
	}
	if password, ok := s.admin.User.Password(); ok {
		auth := []string{"AUTH", password}
		if name := s.admin.User.Username(); name != "" {
			auth = []string{"AUTH", name, password}
		}
		if _, err := do(auth...); err != nil {
			return err
		}
	}
	return f(do)
}

// reply reads one answer; an array becomes lines.
func reply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("redis answered nothing")
	}
	switch rest := line[1:]; line[0] {
	case '+', ':':
		return rest, nil
	case '-':
		return "", errors.New("redis answered: " + rest)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", err
		}
		body := make([]byte, n+2)
		if _, err := io.ReadFull(r, body); err != nil {
			return "", err
		}
		return string(body[:n]), nil
	case '*':
		n, err := strconv.Atoi(rest)
		if err != nil {
			return "", err
		}
		var lines []string
		for range n {
			element, err := reply(r)
			if err != nil {
				return "", err
			}
			lines = append(lines, element)
		}
		return strings.Join(lines, "\n"), nil
	}
	return "", fmt.Errorf("redis answered %q, which is no answer", line)
}
