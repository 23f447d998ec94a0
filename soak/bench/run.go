package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/persistence/testserver"
)

// caseTimeout bounds one case: what has not drained by then is an error.
const caseTimeout = 3 * time.Minute

type runOptions struct {
	dash     string
	out      string
	rounds   int
	duration time.Duration
	load     int
	only     *regexp.Regexp
	keep     bool
	rows     []row
	systems  []system
}

// measurement is one line of results.jsonl.
type measurement struct {
	Row    string    `json:"row"`
	Mode   string    `json:"mode"`
	Store  string    `json:"store"`
	System string    `json:"system"`
	Args   []string  `json:"args"`
	At     time.Time `json:"at"`
	result
	RedisCPUSeconds float64 `json:"redis_cpu_seconds,omitempty"`
	Error           string  `json:"error,omitempty"`
}

func (m measurement) rate() float64 { return float64(m.Tasks) / m.Seconds }

// measureAll runs the rows round by round, so that what else the machine does
// meets all systems of a row alike.
func measureAll(ctx context.Context, o runOptions, talk io.Writer) (err error) {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	mode := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if o.keep {
		mode = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	file, err := os.OpenFile(filepath.Join(o.out, "results.jsonl"), mode, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	pg, err := testserver.StartPostgres(ctx, testserver.PostgresOptions{Settings: map[string]string{
		"shared_buffers": "256MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min", "max_connections": "300"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pg.Close()) }()
	for round := range o.rounds {
		for _, r := range o.rows {
			if !o.only.MatchString(r.String()) {
				continue
			}
			for _, s := range o.systems {
				if !slices.Contains(s.stores, r.store) {
					continue
				}
				m := measurement{Row: r.String(), Mode: r.mode, Store: r.store, System: s.name, Args: s.settings(r), At: time.Now().UTC()}
				if err := measureOne(ctx, o, pg, r, s, &m); err != nil {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					m.Error = err.Error()
				}
				fmt.Fprintf(talk, "round %d, %s, %s: %s\n", round+1, r, s.name, m.brief())
				if err := json.NewEncoder(file).Encode(m); err != nil {
					return err
				}
			}
		}
	}
	return file.Sync()
}

func (m measurement) brief() string {
	switch {
	case m.Error != "":
		return m.Error
	case m.Mode == "latency":
		return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms", m.P50, m.P99)
	case m.Mode == "load":
		return fmt.Sprintf("filled in %.1f s, loaded in %.2f s, first start after %.2f s", m.EnqueueSeconds, m.LoadSeconds, m.FirstSeconds)
	}
	return fmt.Sprintf("%.0f tasks/s (%d in %.1f s)", m.rate(), m.Tasks, m.Seconds)
}

// measureOne gives the case an empty database, runs the node and notes what
// Redis used.
func measureOne(ctx context.Context, o runOptions, pg *testserver.PostgresServer, r row, s system, m *measurement) (err error) {
	ctx, cancel := context.WithTimeout(ctx, caseTimeout)
	defer cancel()
	cleanup := context.WithoutCancel(ctx)
	args := append(slices.Clone(s.settings(r)), r.args(o)...)
	path, err := os.Executable()
	if err != nil {
		return err
	}
	if s.dash {
		path = o.dash
		store, _, _ := strings.Cut(r.store, " ")
		args = append(args, "--store", store)
	}
	var redis *testserver.RedisServer
	if r.store == redisAlways || r.store == redisEverysec {
		_, policy, _ := strings.Cut(r.store, " ")
		redis, err = testserver.StartRedis(ctx, testserver.RedisOptions{Settings: map[string]string{
			"appendfsync": policy, "auto-aof-rewrite-percentage": "0"}})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, redis.Close()) }()
		args = append(args, "--redis-url", redis.URL())
		if s.dash && r.store == redisEverysec {
			args = append(args, "--redis-accept-loss", "2s")
		}
	}
	if r.store == postgresOn || s.dash && redis != nil {
		address, drop, err := pg.NewDatabase(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = drop(cleanup) }() // the server goes at the end of the run
		args = append(args, "--postgres-url", address)
	}
	return runCase(ctx, exec.CommandContext(ctx, path, args...), redis, m)
}

// runCase speaks with the node: ready, go, result.
func runCase(ctx context.Context, cmd *exec.Cmd, redis *testserver.RedisServer, m *measurement) error {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	talk := func() error {
		lines := bufio.NewReader(out)
		if line, err := lines.ReadString('\n'); err != nil || line != "ready\n" {
			return fmt.Errorf("the node said %q: %w", line, err)
		}
		before, err := redisCPU(ctx, redis)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(in, "go\n"); err != nil {
			return err
		}
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("the node gave no result: %w", err)
		}
		after, err := redisCPU(ctx, redis)
		if err != nil {
			return err
		}
		m.RedisCPUSeconds = after - before
		return json.Unmarshal(line, &m.result)
	}
	err = talk()
	if err := errors.Join(err, cmd.Wait()); err != nil {
		text := stderr.String()
		return fmt.Errorf("%w: %s", err, text[max(0, len(text)-500):])
	}
	return nil
}

// redisCPU is the processor time that the server has used, in seconds.
func redisCPU(ctx context.Context, redis *testserver.RedisServer) (float64, error) {
	if redis == nil {
		return 0, nil
	}
	info, err := redis.Do(ctx, "INFO", "cpu")
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != "used_cpu_sys" && name != "used_cpu_user" {
			continue
		}
		seconds, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("redis says %s: %w", line, err)
		}
		sum += seconds
	}
	return sum, nil
}
