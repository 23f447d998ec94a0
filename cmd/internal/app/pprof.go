package app

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

// startPprof serves profiles beside the API, on this machine alone.
func (a *App) startPprof(ctx context.Context) error {
	if a.cfg.PprofListen == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.cfg.PprofListen)
	if err != nil {
		return fmt.Errorf("listen for profiles: %w", err)
	}
	a.listening(l.Addr())
	s := &http.Server{Handler: profiles(), ReadHeaderTimeout: pprofHeader, ReadTimeout: pprofHeader, WriteTimeout: pprofWrite}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.logger.Warn("profiles are not served any more", slog.Any("err", err))
		}
	}()
	a.cleanup.add("profiles", func(context.Context) error {
		err := s.Close()
		<-done
		return err
	})
	a.logger.Info("profiles are served without a key", slog.String("url", "http://"+l.Addr().String()+"/debug/pprof/"))
	return nil
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
