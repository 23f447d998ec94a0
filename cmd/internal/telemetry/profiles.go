package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"
)

// Times of the listener for profiles. A profile takes as long as it is asked for,
// bounded by pprofWrite.
const (
	pprofHeader = 5 * time.Second
	pprofWrite  = 5 * time.Minute
)

// Profiles serve Go's profiles. They own one goroutine until Stop.
type Profiles struct {
	server *http.Server
	at     net.Addr
	done   chan struct{}
}

// ServeProfiles serves profiles without a key, on this machine alone.
func ServeProfiles(ctx context.Context, listen string, logger *slog.Logger) (*Profiles, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listen for profiles: %w", err)
	}
	p := &Profiles{
		server: &http.Server{Handler: profiles(), ReadHeaderTimeout: pprofHeader, ReadTimeout: pprofHeader, WriteTimeout: pprofWrite},
		at:     l.Addr(), done: make(chan struct{}),
	}
	go func() {
		defer close(p.done)
		if err := p.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			logger.Warn("profiles are not served any more", slog.Any("err", err))
		}
	}()
	logger.Info("profiles are served without a key", slog.String("url", "http://"+l.Addr().String()+"/debug/pprof/"))
	return p, nil
}

// Addr is where they are.
func (p *Profiles) Addr() net.Addr { return p.at }

// Stop ends them, and requests under way.
func (p *Profiles) Stop(context.Context) error {
	err := p.server.Close()
	<-p.done
	return err
}

// profiles leaves out the command line, which may hold the passwords of stores. A
// page in a browser must not reach it by a name of its own that leads here.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.Handle("/debug/pprof/cmdline", http.NotFoundHandler())
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, err := netip.ParseAddrPort(r.Host)
		if err != nil || !at.Addr().Unmap().IsLoopback() || r.Header.Get("Origin") != "" {
			http.Error(w, "ask by the loopback address itself", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
