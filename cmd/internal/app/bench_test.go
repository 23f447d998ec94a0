package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/gcfloor"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// instant is a gateway that answers every run at once, without a socket: it
// measures Dash and nothing else. at tells when a frame arrived.
type instant struct {
	boot string
	done chan struct{}
	once sync.Once
	at   func(openclaw.AgentRequest)
}

func (l *instant) Hello() *openclaw.Hello {
	return &openclaw.Hello{BootID: l.boot, Version: "2026.9.6", Protocol: 4}
}
func (l *instant) Done() <-chan struct{} { return l.done }
func (l *instant) Err() error            { return openclaw.ErrClosed }
func (l *instant) Close()                { l.once.Do(func() { close(l.done) }) }

func (l *instant) Agent(r openclaw.AgentRequest, on func(openclaw.AgentAnswer)) error {
	if l.at != nil {
		l.at(r)
	}
	on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: r.RunID})
	on(openclaw.AgentAnswer{Kind: openclaw.AnswerFinal, RunID: r.RunID, Text: "done", Usage: &openclaw.Usage{Input: 1, Output: 1}})
	return nil
}

func (l *instant) Wait(_ context.Context, run string, _ time.Duration) (openclaw.RunStatus, error) {
	return openclaw.RunStatus{RunID: run, Status: "timeout"}, nil
}
func (l *instant) History(context.Context, string, int) (openclaw.History, error) {
	return openclaw.History{}, nil
}
func (l *instant) Session(context.Context, string) (openclaw.Session, bool, error) {
	return openclaw.Session{}, false, nil
}
func (l *instant) Sessions(context.Context, openclaw.SessionQuery) (openclaw.SessionPage, error) {
	return openclaw.SessionPage{}, nil
}
func (l *instant) AbortSession(context.Context, string, string, bool) (openclaw.Aborted, error) {
	return openclaw.Aborted{}, nil
}
func (l *instant) SubAgents(context.Context, string) (openclaw.SubAgents, error) {
	return openclaw.SubAgents{}, nil
}
func (l *instant) DeleteSession(context.Context, string) (bool, error) { return true, nil }
func (l *instant) Teardown(context.Context, openclaw.TeardownRequest) openclaw.TeardownReport {
	return openclaw.TeardownReport{Stopped: true}
}
func (l *instant) ConfigState(context.Context) (openclaw.ConfigState, error) {
	return openclaw.ConfigState{}, nil
}
func (l *instant) SystemInfo(context.Context) (openclaw.SystemInfo, error) {
	return openclaw.SystemInfo{}, nil
}
func (l *instant) Lanes(context.Context) ([]openclaw.Lane, error) { return nil, nil }

// benchNode starts a node on the embedded store with gateways of the given slots.
func benchNode(tb testing.TB, dir string, gateways, slots int, at func(openclaw.AgentRequest)) *App {
	tb.Helper()
	gcfloor.Set(gcfloor.Floor) // as dash serve does
	cfg := config.Default()
	cfg.Listen, cfg.Data, cfg.Node, cfg.Retention = "127.0.0.1:0", dir, "bench", 0
	a, err := Start(tb.Context(), cfg, Deps{
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Version: "bench", BcryptCost: 4,
		Dial: func(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
			return &instant{boot: messages.NewID(), done: make(chan struct{}), at: at}, nil
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := a.Stop(); err != nil {
			tb.Error(err)
		}
	})
	c := newCommands(a).gateways()
	for i := range gateways {
		_, err := c.Create(tb.Context(), "", messages.Gateway{ID: "gw-" + strconv.Itoa(i), Tenant: "default", Pool: "default",
			URL: "ws://127.0.0.1:" + strconv.Itoa(i+1) + "/", Token: "t", MaxConcurrency: slots, Weight: 1})
		if err != nil && messages.CodeOf(err) != messages.CodeConflict {
			tb.Fatal(err)
		}
	}
	return a
}

func spec(text string) *messages.TaskSpec {
	return &messages.TaskSpec{Message: text, TimeoutSeconds: 600, MaxAttempts: 3, OnUnknown: string(messages.Requeue)}
}

// ends counts terminal events.
func ends(tb testing.TB, a *App, want int) <-chan struct{} {
	tb.Helper()
	sub := a.feed.Subscribe(1 << 20)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer sub.Close()
		for n := 0; n < want; {
			e, ok := <-sub.C()
			if !ok {
				return
			}
			if e.GetTask().GetState() == "succeeded" {
				n++
			}
		}
	}()
	return done
}

// BenchmarkActors: durable submit and complete through the actors on SQLite;
// every task is four steps (enqueue, claim, running, end) with an event each; RUNNING is written with the end, which
// follows at once here.
func BenchmarkActors(b *testing.B) {
	for _, producers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) {
			a := benchNode(b, b.TempDir(), 8, 64, nil)
			c := newCommands(a).tasks()
			done := ends(b, a, b.N)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			began := cpu(b)
			var wg sync.WaitGroup
			for range producers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						_, err := c.Submit(b.Context(), server.SubmitRequest{Tenant: "default", Class: messages.High, Spec: spec("hello")})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			<-done
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(b.N), "cpu-us/task")
		})
	}
}

// BenchmarkREST: accepted and completed over REST, keep-alive connections.
func BenchmarkREST(b *testing.B) {
	a := benchNode(b, b.TempDir(), 8, 64, nil)
	const conns = 50
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns}}
	body, err := json.Marshal(map[string]any{"priority": "high", "input": map[string]any{"message": "hello"}})
	if err != nil {
		b.Fatal(err)
	}
	key, _ := a.AdminKey()
	done := ends(b, a, b.N)
	var left atomic.Int64
	left.Store(int64(b.N))
	took := make([][]time.Duration, conns)
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				began := time.Now()
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, a.URL()+"/api/v1/tasks", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+key.Reveal())
				req.Header.Set("Content-Type", "application/json")
				resp, err := client.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close() // read to its end
				if err != nil || resp.StatusCode != http.StatusAccepted {
					b.Errorf("status %d, %v", resp.StatusCode, err)
					return
				}
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
	report(b, slices.Concat(took...))
}

// report adds percentiles in milliseconds.
func report(b *testing.B, d []time.Duration) {
	b.Helper()
	if len(d) == 0 {
		return
	}
	slices.Sort(d)
	b.ReportMetric(d[len(d)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(d[min(len(d)-1, len(d)*99/100)].Seconds()*1e3, "p99-ms")
}

// BenchmarkStart: from submit to the frame at the gateway at 100 tasks/s.
func BenchmarkStart(b *testing.B) {
	var mu sync.Mutex
	var took []time.Duration
	a := benchNode(b, b.TempDir(), 4, 16, func(r openclaw.AgentRequest) {
		sent, err := strconv.ParseInt(r.Message, 10, 64)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Duration(time.Now().UnixNano()-sent))
	})
	c := newCommands(a).tasks()
	done := ends(b, a, b.N)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	b.ResetTimer()
	for range b.N {
		<-tick.C
		go func() {
			text := strconv.FormatInt(time.Now().UnixNano(), 10)
			_, err := c.Submit(b.Context(), server.SubmitRequest{Tenant: "default", Class: messages.High, Spec: spec(text)})
			if err != nil {
				b.Error(err)
			}
		}()
	}
	<-done
	mu.Lock()
	defer mu.Unlock()
	report(b, took)
}

// BenchmarkQueued100k: memory of 100,000 queued tasks, and the time from the
// start of a node until it serves them again.
func BenchmarkQueued100k(b *testing.B) {
	const tasks = 100_000
	for range b.N {
		dir := b.TempDir()
		a := benchNode(b, dir, 0, 1, nil)
		before := rss(b)
		c := newCommands(a).tasks()
		var wg sync.WaitGroup
		var n atomic.Int64
		for range 256 {
			wg.Go(func() {
				for n.Add(1) <= tasks {
					if _, err := c.Submit(b.Context(), server.SubmitRequest{Tenant: "default", Class: messages.Low, Spec: spec("a queued task")}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		runtime.GC()
		b.ReportMetric((rss(b)-before)/(1<<20), "RSS-MiB")
		if err := a.Stop(); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		again := benchNode(b, dir, 0, 1, nil)
		q, err := newCommands(again).tasks().Queue(b.Context(), "", "default", "")
		if err != nil || q[3].Depth != tasks {
			b.Fatalf("depth after the restart: %+v, %v", q, err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "restart-s")
	}
}

// cpu is the processor time that this process has used.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rss is the resident memory of this process in bytes.
func rss(tb testing.TB) float64 {
	tb.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "VmRSS:")
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		tb.Fatal(err)
	}
	return kb * 1024
}
