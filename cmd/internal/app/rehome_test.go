package app

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"

	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
)

// lines is a log that a test can read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestLostHome: a node starts with an empty data folder, so what it is the home
// of belongs to a home that never comes back. The operator hears of it, and
// makes the node that works the home: not while the old one is alive, and a
// managed one with an empty folder only when that is said.
func TestLostHome(t *testing.T) {
	t.Parallel()
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = port.Close() })
	dialled := make(chan struct{}, 1)
	go func() {
		for {
			c, err := port.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
			select {
			case dialled <- struct{}{}:
			default:
			}
		}
	}()
	cfg, data := onPostgres(t), t.TempDir()
	old := must(startNode(t, cfg, "a", data))(t)
	const lost = "01990000-0000-7000-8000-000000000000"
	for _, g := range []messages.Gateway{
		{ID: "loop", URL: "ws://" + port.Addr().String(), Token: "t"}, {ID: "proc", Managed: &messages.Managed{}}, {ID: "far", URL: "wss://192.0.2.1:1", Token: "t"},
	} {
		g.Tenant, g.Pool, g.Node, g.Home = messages.DefaultTenant, messages.DefaultPool, "a", lost
		g.MaxConcurrency, g.Weight, g.CreatedAt = 1, 1, messages.Now()
		must(old.repos.Gateways.Create(t.Context(), g))(t)
	}
	key := strings.TrimSpace(string(must(os.ReadFile(filepath.Join(data, "admin.key")))(t)))
	if err := old.Stop(); err != nil {
		t.Fatal(err)
	}

	log := &lines{}
	cfg.Node, cfg.Data = "a", t.TempDir()
	n := must(Start(t.Context(), cfg, Deps{Logger: slog.New(slog.NewTextHandler(log, nil)), Registry: prometheus.NewRegistry(), Version: "test", BcryptCost: bcrypt.MinCost}))(t)
	t.Cleanup(func() { _ = n.Stop() })
	if s := log.String(); !strings.Contains(s, "another data folder") || !strings.Contains(s, `gateways="loop, proc"`) || !strings.Contains(s, "--here") {
		t.Errorf("the log does not tell of the gateways that were lost:\n%s", s)
	}
	client := apiClient(t, n, messages.Secret(key))
	var g *api.Gateway
	eventually(t, "the gateway says why it is not connected", func() bool {
		g = must(client.GetGateway(t.Context(), "loop"))(t)
		return g.State == api.GatewayStateUnreachable && g.NextStep != nil
	})
	if !strings.Contains(*g.NextStep, "`dash gateway set loop --here`") {
		t.Errorf("%s, next %v", g.State, g.NextStep)
	}
	yes, nobody, loop := true, "nobody", "ws://"+port.Addr().String()
	here := api.UpdateGateway{Here: &yes}
	refused := func(id string, in api.UpdateGateway, status int, words ...string) {
		t.Helper()
		_, err := client.UpdateGateway(t.Context(), id, in)
		var e *api.Error
		if !errors.As(err, &e) || e.Status != status || slices.ContainsFunc(words, func(w string) bool {
			return !strings.Contains(err.Error(), w) && !strings.Contains(text(e.NextStep), w)
		}) {
			t.Errorf("%s: %v, want %d with %q", id, err, status, words)
		}
	}
	refused("far", here, 400, "has no home")
	refused("loop", api.UpdateGateway{Node: &nobody}, 400, "no node nobody is alive")
	refused("loop", api.UpdateGateway{Here: &yes, Node: &nobody}, 400, "together")
	refused("proc", here, 409, "its state folder is not on this node", "--here --fresh")

	// While the old home is alive there would be two.
	must(n.store.Renew(t.Context(), messages.Node{ID: "a-000000000000", Addr: "192.0.2.9:7373", Home: lost}, cluster.TTL))(t)
	eventually(t, "the other life is seen", func() bool {
		nodes, _ := n.lease.Nodes()
		return len(nodes) == 2
	})
	refused("loop", here, 409, "a-000000000000 at 192.0.2.9:7373, is alive")
	eventually(t, "its lease has ended", func() bool {
		nodes, _ := n.lease.Nodes()
		return len(nodes) == 1
	})

	select {
	case <-dialled:
		t.Fatal("it was dialled before this node was its home")
	default:
	}
	if g := must(client.UpdateGateway(t.Context(), "loop", here))(t); *g.Node != "a" || *g.Url != loop {
		t.Errorf("%+v", g)
	}
	select {
	case <-dialled:
	case <-time.After(patience):
		t.Fatal("its new home does not dial it")
	}
	must(client.UpdateGateway(t.Context(), "proc", api.UpdateGateway{Here: &yes, Fresh: &yes}))(t)
	eventually(t, "the new home looks for the process", func() bool {
		g := must(client.GetGateway(t.Context(), "proc"))(t)
		return g.State == api.GatewayStateQuarantined && strings.Contains(*g.Reason, "this node does not start gateways")
	})
	for _, id := range []string{"loop", "proc"} {
		if g := must(n.repos.Gateways.Get(t.Context(), id))(t); g.Home != n.home.ID {
			t.Errorf("the home of %s is %q", id, g.Home)
		}
	}
	must(client.UpdateGateway(t.Context(), "loop", here))(t) // again: no change, no refusal
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// TestNewGatewayNamesALivingHome: a name that no living node has would never be
// anybody's home; one that has already a home may be told so again.
func TestNewGatewayNamesALivingHome(t *testing.T) {
	t.Parallel()
	cfg, data := onPostgres(t), t.TempDir()
	n := must(startNode(t, cfg, "a", data))(t)
	t.Cleanup(func() { _ = n.Stop() })
	const there = "01990000-0000-7000-8000-00000000000b"
	must(n.store.Renew(t.Context(), messages.Node{ID: "b-000000000000", Addr: "192.0.2.9:7373", Home: there}, time.Minute))(t)
	eventually(t, "the other node is seen", func() bool {
		nodes, _ := n.lease.Nodes()
		return len(nodes) == 2
	})
	client := apiClient(t, n, messages.Secret(strings.TrimSpace(string(must(os.ReadFile(filepath.Join(data, "admin.key")))(t)))))
	add := func(id, node string) error {
		url, token := "ws://127.0.0.1:1/"+id, "a-token-0123456789"
		_, err := client.CreateGateway(t.Context(), api.CreateGateway{Id: id, Url: &url, Token: &token, Node: &node})
		return err
	}
	var e *api.Error
	if err := add("gw-x", "nosuch"); !errors.As(err, &e) || e.Status != 400 || !strings.Contains(err.Error(), "no node nosuch is alive") {
		t.Errorf("with a node that nobody knows: %v", err)
	}
	for id, home := range map[string]cluster.Home{"gw-a": n.home, "gw-b": {Node: "b", ID: there}} {
		if err := add(id, home.Node); err != nil {
			t.Fatal(err)
		}
		if g := must(n.repos.Gateways.Get(t.Context(), id))(t); g.Node != home.Node || g.Home != home.ID {
			t.Errorf("%s is at home at %s %s, want %v", id, g.Node, g.Home, home)
		}
		if _, err := client.UpdateGateway(t.Context(), id, api.UpdateGateway{Node: &home.Node}); err != nil {
			t.Errorf("%s is to stay where it is: %v", id, err)
		}
	}
	// Made by a release without homes, for a node of that name.
	old := must(n.repos.Gateways.Get(t.Context(), "gw-b"))(t)
	old.Home, old.Managed, old.URL = "", &messages.Managed{}, ""
	must(n.repos.Gateways.Update(t.Context(), old))(t)
	name := "b"
	if _, err := client.UpdateGateway(t.Context(), "gw-b", api.UpdateGateway{Node: &name}); err != nil {
		t.Errorf("a living node takes what was made for it: %v", err)
	}
	if g := must(n.repos.Gateways.Get(t.Context(), "gw-b"))(t); g.Home != there {
		t.Errorf("its home is %q", g.Home)
	}
}
