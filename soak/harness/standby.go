package harness

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/dash-fleet/dash/http/api"
)

// Names of the two nodes of a bench with a standby.
const (
	NodeA = "a"
	NodeB = "b"
)

// startStandby starts the second node and returns what leads the client to
// whichever of the two works.
func (b *Bench) startStandby(t http.RoundTripper, port int) (http.RoundTripper, error) {
	cfg := b.cfg
	cfg.Data = filepath.Join(cfg.Dir, "data-b")
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	cfg.Args = append(cfg.Args[:len(cfg.Args):len(cfg.Args)], "--node", NodeB)
	b.Standby = &Dash{cfg: cfg, port: port, env: b.Dash.env, log: "dash-b.log"}
	if err := b.Standby.Launch(); err != nil {
		return nil, err
	}
	return newEither(t, b.Dash.Base(), b.Standby.Base())
}

// either sends requests to one of two nodes, and to the other one from then on
// when that does not answer or only stands by. It repeats nothing: callers do.
type either struct {
	t     http.RoundTripper
	nodes [2]*url.URL
	at    atomic.Uint32
}

func newEither(t http.RoundTripper, a, b string) (*either, error) {
	e := &either{t: t}
	for i, base := range []string{a, b} {
		u, err := url.Parse(base)
		if err != nil {
			return nil, err
		}
		e.nodes[i] = u
	}
	return e, nil
}

func (e *either) RoundTrip(r *http.Request) (*http.Response, error) {
	at := e.at.Load()
	r = r.Clone(r.Context())
	r.URL.Host = e.nodes[at%2].Host
	r.Host = r.URL.Host
	resp, err := e.t.RoundTrip(r)
	if (err != nil && r.Context().Err() == nil) || (err == nil && resp.StatusCode == http.StatusServiceUnavailable) {
		e.at.CompareAndSwap(at, at+1)
	}
	return resp, err
}

// AwaitNodes waits until n nodes have a lease.
func (b *Bench) AwaitNodes(ctx context.Context, n int) error {
	return await(ctx, bootPatience, fmt.Sprintf("%d nodes", n), func(ctx context.Context) error {
		var l *api.NodeList
		l, err := b.Client.ListNodes(ctx)
		if err == nil && len(l.Items) != n {
			err = fmt.Errorf("there are %d", len(l.Items))
		}
		return err
	})
}
