package openclawtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

const simPath = "/__sim"

// order is what POST /__sim can ask for besides faults.
type order struct {
	Faults
	Crash       bool     `json:"crash"`
	DownSeconds *float64 `json:"down_seconds"`
	Drain       bool     `json:"drain"`
}

// serveSim changes this gateway while it runs. Fields not given stay as they
// are. GET tells what is in force and what the gateway holds.
func (g *Gateway) serveSim(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		writeJSON(w, http.StatusOK, map[string]any{"gateway": g.cfg.Name, "boot": g.BootID(), "faults": g.Faults(), "stats": g.Stats()})
	case http.MethodPost:
		o, err := g.readOrder(w, r)
		if err != nil {
			apiError(w, http.StatusBadRequest, err.Error(), "invalid_request_error")
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"gateway": g.cfg.Name, "boot": g.BootID(), "faults": o.Faults})
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		g.obey(o)
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	}
}

func (g *Gateway) readOrder(w http.ResponseWriter, r *http.Request) (order, error) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		return order{}, fmt.Errorf("read body: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	o := order{Faults: g.faults}
	if err := decodeStrict(data, &o); err != nil {
		return order{}, fmt.Errorf("decode body: %w", err)
	}
	if o.DownSeconds != nil && !validSeconds(*o.DownSeconds) {
		return order{}, fmt.Errorf("down_seconds %g is outside 0..86400", *o.DownSeconds)
	}
	if err := o.Faults.Validate(); err != nil {
		return order{}, err
	}
	g.faults = o.Faults
	return o, nil
}

// obey crashes or drains on command. A crashed gateway comes back after
// down_seconds (default at once), a drained one only when down_seconds is given.
func (g *Gateway) obey(o order) {
	switch {
	case o.Crash:
		down := 0.0
		if o.DownSeconds != nil {
			down = *o.DownSeconds
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.stopped {
			return
		}
		g.die(seconds(down))
	case o.Drain:
		down := -1.0
		if o.DownSeconds != nil {
			down = *o.DownSeconds
		}
		g.startDrain(seconds(down))
	}
}

// die crashes the process, which comes back after down; a managed one exits.
// Callers hold g.mu.
func (g *Gateway) die(down time.Duration) {
	g.jobs.Go(func() {
		g.Crash()
		if g.exit != nil {
			g.exitWith(exitKilled)
			return
		}
		g.scheduleRevival(down)
	})
}

func decodeStrict(data []byte, v any) error {
	var probe map[string]json.RawMessage
	if err := json.Unmarshal(data, &probe); err != nil {
		return err
	}
	return strictUnmarshal(data, v)
}
