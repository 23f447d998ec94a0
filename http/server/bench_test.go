package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
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
