package server_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// noop accepts every submit at once.
type noop struct{ tasks }

// tasks hides the name of the embedded interface, which is also one of its methods.
type tasks = interface{ server.Tasks }

func (noop) Submit(_ context.Context, r server.SubmitRequest) (server.Submitted, error) {
	return server.Submitted{Task: server.Task{Task: messages.Task{
		ID: "01990000-0000-7000-8000-000000000001", Tenant: r.Tenant, Pool: "default", Class: r.Class, Session: r.Session, State: messages.Queued, Spec: r.Spec, CreatedAt: time.Unix(0, 0),
	}}}, nil
}

// BenchmarkSubmit is what the server itself costs per submit, without the
// network: routing, credential, decoding, encoding.
func BenchmarkSubmit(b *testing.B) {
	n := start(b, server.Config{})
	cmd := n.Commands()
	cmd.Tasks = noop{}
	srv, err := server.New(server.Config{}, server.Deps{Commands: cmd, Logger: n.logger, Auth: n.auth})
	if err != nil {
		b.Fatal(err)
	}
	body := `{"priority":"high","session":"s-1","input":{"message":"` + strings.Repeat("word ", 40) + `"},"labels":{"team":"search"}}`
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/tasks", strings.NewReader(body))
		r.URL.Host, r.URL.Scheme = "", ""
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+admin)
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		if w.Code != http.StatusAccepted {
			b.Fatal(w.Code, w.Body)
		}
	}
}

// BenchmarkSubmitOverHTTP adds the network and a client on the same CPUs:
// 50 connections, no-op commands.
func BenchmarkSubmitOverHTTP(b *testing.B) {
	n := start(b, server.Config{})
	cmd := n.Commands()
	cmd.Tasks = noop{}
	srv, err := server.New(server.Config{Listen: "127.0.0.1:0"}, server.Deps{Commands: cmd, Logger: n.logger, Auth: n.auth})
	if err != nil {
		b.Fatal(err)
	}
	if err := srv.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer srv.Stop(context.WithoutCancel(b.Context()))
	tr := &http.Transport{MaxIdleConnsPerHost: 50}
	defer tr.CloseIdleConnections()
	body := `{"priority":"high","input":{"message":"` + strings.Repeat("word ", 40) + `"}}`
	b.SetParallelism(max(1, 50/runtime.GOMAXPROCS(0)))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := http.NewRequest(http.MethodPost, "http://"+srv.Addr().String()+"/api/v1/tasks", strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+admin)
			resp, err := tr.RoundTrip(r)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusAccepted {
				b.Error(resp.StatusCode, err)
			}
			resp.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "submits/s")
}
