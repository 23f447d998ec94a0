// Package attack does to a node what an attacker without a good key can, and
// measures what honest clients notice. What a busy machine does to both shows in
// the quiet times between the attacks: they are measured in the same run.
package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Target is a node and a key that may do everything.
type Target struct {
	Base, Key string
	Rate      int           // honest requests per second
	Time      time.Duration // of each quiet time, and of each attack
	Rounds    int           // a quiet time and an attack, so often
	Logf      func(format string, args ...any)
}

// Result is what an attack did. Quiet and Under are medians over the rounds.
type Result struct {
	Attack string             `json:"attack"`
	Load   float64            `json:"load"` // of the machine, over the minute before
	Quiet  map[string]Latency `json:"quiet"`
	Under  map[string]Latency `json:"under,omitempty"`
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

// kind is one attack, and how slow honest requests may become under it.
type kind struct {
	begin func(ctx context.Context, t Target, r *Result) (stop func(), err error)
	most  func(quiet float64) float64 // milliseconds of the p99
}

func fifthMore(quiet float64) float64 { return 1.2 * quiet }

var kinds = map[string]kind{
	"keys":    {begin: keys, most: func(float64) float64 { return 200 }},
	"slow":    {begin: slow, most: fifthMore},
	"sockets": {begin: sockets, most: fifthMore},
}

// Names lists the attacks.
func Names() []string { return slices.Sorted(maps.Keys(kinds)) }

// Run measures a quiet time and attacks, round by round, and judges the medians.
func Run(ctx context.Context, t Target, name string) (Result, error) {
	k, ok := kinds[name]
	if !ok {
		return Result{}, fmt.Errorf("there is no attack %q: choose one of %s", name, strings.Join(Names(), ", "))
	}
	r := Result{Attack: name, Load: load(), Notes: map[string]float64{}}
	var quiet, under []map[string]Latency
	for i := range t.Rounds {
		q, u, err := k.round(ctx, t, &r)
		if err != nil {
			return r, err
		}
		t.Logf("%s, round %d: p99 of a key in use %.1f ms, %.1f ms under attack", name, i+1, q["warm"].P99, u["warm"].P99)
		quiet, under = append(quiet, q), append(under, u)
	}
	r.Quiet, r.Under = medians(quiet), medians(under)
	for of, l := range r.Under {
		if most := k.most(r.Quiet[of].P99); l.P99 > most {
			r.fail("%s: p99 %.1f ms, at most %.1f", of, l.P99, most)
		}
		if l.Errors > 0 {
			r.fail("%s: %d of %d requests failed", of, l.Errors, l.N)
		}
	}
	return r, nil
}

func (k kind) round(ctx context.Context, t Target, r *Result) (quiet, under map[string]Latency, err error) {
	if quiet, err = measure(ctx, t); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop, err := k.begin(ctx, t, r)
	if err != nil {
		return nil, nil, err
	}
	under, err = measure(ctx, t)
	cancel()
	stop()
	return quiet, under, err
}

// Steady is honest work alone: what the node does without any attack.
func Steady(ctx context.Context, t Target, most float64) (Result, error) {
	r := Result{Attack: "none", Load: load(), Notes: map[string]float64{"rate": float64(t.Rate)}}
	var all []map[string]Latency
	for range t.Rounds {
		l, err := measure(ctx, t)
		if err != nil {
			return r, err
		}
		all = append(all, l)
	}
	r.Quiet = medians(all)
	for of, l := range r.Quiet {
		if l.P99 > most || l.Errors > 0 {
			r.fail("%s: p99 %.1f ms, at most %.0f; %d of %d failed", of, l.P99, most, l.Errors, l.N)
		}
	}
	return r, nil
}

// medians of the quantiles, and sums of what is counted.
func medians(rounds []map[string]Latency) map[string]Latency {
	out := map[string]Latency{}
	for of := range rounds[0] {
		var l Latency
		var p50, p99 []float64
		for _, r := range rounds {
			l.N, l.Errors = l.N+r[of].N, l.Errors+r[of].Errors
			p50, p99 = append(p50, r[of].P50), append(p99, r[of].P99)
		}
		slices.Sort(p50)
		slices.Sort(p99)
		l.P50, l.P99 = p50[len(p50)/2], p99[len(p99)/2]
		out[of] = l
	}
	return out
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
