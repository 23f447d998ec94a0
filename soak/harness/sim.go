package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
)

const simToken = "soak-token"

// Sim is a dash sim process with all simulated gateways. Its log goes on over
// restarts.
type Sim struct {
	cfg  Config
	base int
	log  string
	proc *process
}

// URL of gateway i.
func (s *Sim) URL(i int) string { return fmt.Sprintf("ws://127.0.0.1:%d", s.base+i) }

// PID of the running process.
func (s *Sim) PID() int { return s.proc.pid() }

// Start runs dash sim and waits until the last gateway answers.
func (s *Sim) Start(ctx context.Context) error {
	args := []string{
		"sim", "--listen", fmt.Sprintf("127.0.0.1:%d", s.base), "--gateways", strconv.Itoa(s.cfg.Gateways), "--token", simToken,
		"--run-time", s.cfg.RunTime.String(), "--max-concurrent", strconv.Itoa(s.cfg.Slots), "--log", s.log,
		"--time-scale", strconv.FormatFloat(s.cfg.TimeScale, 'g', -1, 64), "--openclaw-version", s.cfg.OpenClaw,
	}
	if s.cfg.KeepState {
		args = append(args, "--state", filepath.Join(s.cfg.Dir, "gateways"))
	}
	var err error
	if s.proc, err = start(filepath.Join(s.cfg.Dir, "sim.log"), nil, s.cfg.Binary, args...); err != nil {
		return err
	}
	return await(ctx, bootPatience, "simulated gateways", func(ctx context.Context) error {
		if !s.proc.alive() {
			return fmt.Errorf("dash sim ended, see %s", filepath.Join(s.cfg.Dir, "sim.log"))
		}
		return s.call(ctx, http.MethodGet, s.cfg.Gateways-1, nil)
	})
}

// Kill is kill -9 of all gateways at once.
func (s *Sim) Kill() {
	if s.proc != nil {
		s.proc.kill()
	}
}

// Fault sends an order to gateway i; its fields are those of POST /__sim. A
// gateway that is down from an earlier fault is waited for.
func (s *Sim) Fault(ctx context.Context, i int, order map[string]any) error {
	var refused error
	err := await(ctx, 20*time.Second, Name(i)+" takes orders", func(ctx context.Context) error {
		err := s.call(ctx, http.MethodPost, i, order)
		if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			refused = err
			return nil
		}
		return err
	})
	return errors.Join(err, refused)
}

func (s *Sim) call(ctx context.Context, method string, i int, body map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d/__sim", s.base+i), bytes.NewReader(data))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("tell %s: %w", Name(i), err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("tell %s: %w", Name(i), err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s refused %s: %s", Name(i), data, text)
	}
	return nil
}

// Lines reads the ground truth so far. It may be called at any time.
func (s *Sim) Lines() ([]openclawtest.Line, error) {
	f, err := os.Open(s.log)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the simulators' log: %w", err)
	}
	defer f.Close()
	return openclawtest.ReadLog(f)
}

// AwaitLine waits for a line that fits.
func (s *Sim) AwaitLine(ctx context.Context, patience time.Duration, what string, fits func(openclawtest.Line) bool) (openclawtest.Line, error) {
	var found openclawtest.Line
	err := await(ctx, patience, what, func(context.Context) error {
		lines, err := s.Lines()
		if err != nil {
			return err
		}
		for _, l := range lines {
			if fits(l) {
				found = l
				return nil
			}
		}
		return fmt.Errorf("not among %d lines", len(lines))
	})
	return found, err
}
