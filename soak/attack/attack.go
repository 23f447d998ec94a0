// Package attack does to a node what an attacker without a good key can, and
// measures what honest clients notice. What a busy machine does to both shows in
// the quiet time before each attack: it is measured in the same run.
package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Target is a node and a key that may do everything.
type Target struct {
	Base, Key string
	Rate      int           // honest requests per second
	Time      time.Duration // of the quiet time, and of the attack
	Logf      func(format string, args ...any)
}

// Result is what an attack did.
type Result struct {
	Attack string             `json:"attack"`
	Load   float64            `json:"load"` // of the machine, over the last minute
	Quiet  map[string]Latency `json:"quiet"`
	Under  map[string]Latency `json:"under"`
	Notes  map[string]float64 `json:"notes"`
	Failed []string           `json:"failed"` // gates
}

// Latency is that of one kind of honest request, in milliseconds.
type Latency struct {
	N      int64   `json:"n"`
	Errors int64   `json:"errors"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
}

// Names lists the attacks.
func Names() []string { return []string{"keys", "slow", "sockets"} }

// Run measures the quiet time, attacks, and judges.
func Run(ctx context.Context, t Target, name string) (Result, error) {
	attacks := map[string]func(context.Context, Target, *Result) (stop func(), err error){"keys": keys, "slow": slow, "sockets": sockets}
	begin := attacks[name]
	if begin == nil {
		return Result{}, fmt.Errorf("there is no attack %q: choose one of %s", name, strings.Join(Names(), ", "))
	}
	r := Result{Attack: name, Load: load(), Notes: map[string]float64{}}
	var err error
	if r.Quiet, err = measure(ctx, t); err != nil {
		return r, err
	}
	attack, cancel := context.WithCancel(ctx)
	defer cancel()
	stop, err := begin(attack, t, &r)
	if err != nil {
		return r, err
	}
	r.Under, err = measure(ctx, t)
	cancel()
	stop()
	if err != nil {
		return r, err
	}
	for kind, under := range r.Under {
		// A fifth more than before, or what nobody notices.
		if most := max(200, 1.2*r.Quiet[kind].P99); under.P99 > most {
			r.fail("%s: p99 %.0f ms, at most %.0f", kind, under.P99, most)
		}
		if under.Errors > 0 {
			r.fail("%s: %d of %d requests failed", kind, under.Errors, under.N)
		}
	}
	return r, nil
}

func (r *Result) fail(format string, args ...any) {
	r.Failed = append(r.Failed, fmt.Sprintf(format, args...))
}

// measure sends honest requests: with a key in use, and health.
func measure(ctx context.Context, t Target) (map[string]Latency, error) {
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer c.CloseIdleConnections()
	out := map[string]Latency{}
	var mu sync.Mutex
	var run sync.WaitGroup
	for kind, path := range map[string]string{"warm": "/api/v1/pools", "health": "/health"} {
		rate := t.Rate
		if kind == "health" {
			rate = 10
		}
		run.Go(func() {
			l := paced(ctx, t, rate, func() bool {
				status, _, err := t.call(ctx, c, http.MethodGet, path, t.Key, "")
				return err == nil && status == http.StatusOK
			})
			mu.Lock()
			defer mu.Unlock()
			out[kind] = l
		})
	}
	run.Wait()
	return out, ctx.Err()
}

// paced does something at a rate, however long each takes, and counts from when
// it was due.
func paced(ctx context.Context, t Target, rate int, do func() bool) Latency {
	h := hdrhistogram.New(1, 60_000_000, 3)
	var mu sync.Mutex
	var run sync.WaitGroup
	var l Latency
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for end := time.Now().Add(t.Time); time.Now().Before(end) && ctx.Err() == nil; {
		due := <-tick.C
		run.Go(func() {
			ok := do()
			mu.Lock()
			defer mu.Unlock()
			_ = h.RecordValue(min(time.Since(due).Microseconds(), 60_000_000))
			if l.N++; !ok {
				l.Errors++
			}
		})
	}
	run.Wait()
	l.P50, l.P99 = float64(h.ValueAtQuantile(50))/1000, float64(h.ValueAtQuantile(99))/1000
	return l
}

// call makes one request and reads its answer.
func (t Target) call(ctx context.Context, c *http.Client, method, path, key, body string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, t.Base+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return resp.StatusCode, b, err
}

// makeKey makes an API key, which is cold until its first use.
func (t Target) makeKey(ctx context.Context, c *http.Client, n int) (string, error) {
	status, b, err := t.call(ctx, c, http.MethodPost, "/api/v1/keys", t.Key, fmt.Sprintf(`{"name":"attack %d","permissions":["read"],"rate_limit":0}`, n))
	if err != nil || status != http.StatusCreated {
		return "", fmt.Errorf("make a key: %d %s %w", status, b, err)
	}
	var made struct{ Key string }
	err = json.Unmarshal(b, &made)
	return made.Key, err
}
