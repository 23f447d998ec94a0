package app

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestSessionsEndInBytes: sessions with labels as long as they may be come on
// pages of about 4 MiB, each once.
func TestSessionsEndInBytes(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Data, cfg.Node, cfg.Listen = t.TempDir(), "n", "127.0.0.1:0"
	a, admin := startProcess(t, cfg, "")
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	labels := map[string]string{}
	for i := range 60 {
		labels[fmt.Sprintf("label-%d", i)] = strings.Repeat("ä", 256)
	}
	const count = 200
	for i := range count {
		s := messages.Session{ID: fmt.Sprintf("s-%03d", i), Tenant: "default", Pool: "default", Labels: labels, State: messages.SessionIdle, CreatedAt: messages.Now(), UpdatedAt: messages.Now()}
		if err := committed(t.Context(), a, persistence.Op{Session: &persistence.SessionWrite{Session: s, FromGeneration: -1}}); err != nil {
			t.Fatal(err)
		}
	}
	q, seen, pages := url.Values{"limit": {"1000"}}, 0, 0
	for {
		var p struct {
			Items []struct{ ID string } `json:"items"`
			Next  *string               `json:"next_cursor"`
		}
		if err := admin.Do(t.Context(), "GET", "/sessions", q, nil, &p); err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Items {
			if want := fmt.Sprintf("s-%03d", seen); s.ID != want {
				t.Fatalf("session %s in place of %s", s.ID, want)
			}
			seen++
		}
		if n := len(p.Items) * 60 * 512; n > 6<<20 {
			t.Errorf("a page of %d bytes", n)
		}
		if pages++; p.Next == nil {
			break
		}
		q.Set("cursor", *p.Next)
	}
	if seen != count || pages < 2 {
		t.Errorf("%d sessions on %d pages", seen, pages)
	}
}
