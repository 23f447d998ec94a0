package attack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dash-fleet/dash/soak/harness"
)

const (
	knownIDs     = 40
	wrongRate    = 200 // wrong keys per second, over the known ids
	unknownRate  = 100 // and of ids that are no key's
	coldPatience = 25 * time.Second
	slowConns    = 500
	silentConns  = 2000
	honest       = 20 // streams that are opened beside the silent ones
)

// load is the machine's load of the last minute, 0 where nobody says.
func load() (l float64) {
	b, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, _ = fmt.Sscan(string(b), &l)
	}
	return l
}

// keys tries wrong texts of known keys, while valid ones are used for the first time.
func keys(ctx context.Context, t Target, r *Result) (func(), error) {
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	cold := make([]string, knownIDs)
	for i := range cold {
		var err error
		if cold[i], err = t.makeKey(ctx, c, i); err != nil {
			return nil, err
		}
	}
	var run sync.WaitGroup
	flood := func(rate int, text func() string) {
		run.Go(func() {
			paced(ctx, t, rate, func() bool {
				_, _, err := t.call(ctx, c, http.MethodGet, "/api/v1/pools", text(), "")
				return err == nil
			})
		})
	}
	flood(wrongRate, func() string {
		k := cold[rand.IntN(len(cold))]
		return k[:len(k)-8] + fmt.Sprintf("%08d", rand.IntN(1e8))
	})
	flood(unknownRate, func() string { return fmt.Sprintf("dash_%012d_%043d", rand.Int64N(1e12), 0) })
	var mu sync.Mutex
	for i, key := range cold {
		run.Go(func() {
			if harness.Pause(ctx, time.Duration(i)*t.Time/(2*knownIDs)) != nil {
				return
			}
			began, status := time.Now(), 0
			for time.Since(began) < coldPatience+time.Second && ctx.Err() == nil {
				if status, _, _ = t.call(ctx, c, http.MethodGet, "/api/v1/pools", key, ""); status == http.StatusOK {
					break
				}
				if harness.Pause(ctx, 500*time.Millisecond) != nil {
					return
				}
			}
			if ctx.Err() != nil && status != http.StatusOK {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			r.Notes["cold_keys"]++
			r.Notes["cold_max_seconds"] = max(r.Notes["cold_max_seconds"], time.Since(began).Seconds())
			if status != http.StatusOK || time.Since(began) > coldPatience {
				r.fail("a cold valid key waits for %s, and gets %d", time.Since(began).Round(time.Millisecond), status)
			}
		})
	}
	return func() { run.Wait(); c.CloseIdleConnections() }, nil
}

// dial opens connections and writes to each, until ctx ends.
func (t Target) dial(ctx context.Context, n int, text func(i int) string) (func(), error) {
	var conns []net.Conn
	stop := func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for i := range n {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(t.Base, "http://"))
		if err != nil {
			return stop, err
		}
		conns = append(conns, c)
		if _, err := io.WriteString(c, text(i)); err != nil {
			t.Logf("connection %d: %v", i, err)
		}
	}
	return stop, nil
}

// slow holds connections with slow headers, slow bodies, and answers that nobody reads.
func slow(ctx context.Context, t Target, _ *Result) (func(), error) {
	head := " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + t.Key + "\r\n"
	texts := []string{
		"GET /api/v1/pools HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"POST /api/v1/tasks" + head + "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
		strings.Repeat("GET /api/v1/openapi.json"+head+"\r\n", 20),
	}
	again := time.NewTicker(4 * time.Second) // headers are cut after 5 s, and come back
	var stops []func()
	stop, err := t.dial(ctx, slowConns, func(i int) string { return texts[i%len(texts)] })
	stops = append(stops, stop)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer again.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
			more, err := t.dial(ctx, slowConns/len(texts), func(int) string { return texts[0] })
			stops = append(stops, more)
			if err != nil && ctx.Err() == nil {
				t.Logf("more slow headers: %v", err)
			}
		}
	}()
	return func() {
		<-done
		for _, s := range stops {
			s()
		}
	}, err
}

// sockets opens WebSockets that never say who they are, and then a few that do.
func sockets(ctx context.Context, t Target, r *Result) (func(), error) {
	upgrade := "GET /events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	stop, err := t.dial(ctx, silentConns, func(int) string { return upgrade + "\r\n" })
	if err != nil {
		return stop, err
	}
	for range honest {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(t.Base, "http://"))
		if err != nil {
			return stop, err
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(c, upgrade+"Authorization: Bearer "+t.Key+"\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			r.fail("a stream with a credential gets no place: %v %v", resp, err)
			continue
		}
		r.Notes["streams"]++
	}
	return stop, nil
}
