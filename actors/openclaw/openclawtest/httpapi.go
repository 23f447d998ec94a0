package openclawtest

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// handler serves WebSocket and HTTP of one life on one port.
func (g *Gateway) handler(l *life) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		if l.dead {
			g.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		l.work.Add(1)
		refuse := l.drain != nil && !l.drain.restart
		g.mu.Unlock()
		defer l.work.Done()
		if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			if refuse {
				panic(http.ErrAbortHandler) // a draining gateway takes no socket: the client sees 1006
			}
			g.serveSocket(l, w, r)
			return
		}
		g.serveHTTP(l, w, r)
	})
}

func (g *Gateway) serveHTTP(l *life, w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/health", "/healthz":
		if !onlyRead(w, r) {
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"ok": true, "status": "live"})
	case "/startup", "/startupz":
		g.startupz(l, w, r)
	case "/ready", "/readyz":
		g.readyz(l, w, r)
	case "/v1/models":
		if g.authorized(w, r) {
			writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []any{
				map[string]any{"id": "openclaw", "object": "model", "owned_by": "openclaw"}, map[string]any{"id": "openclaw/main", "object": "model", "owned_by": "openclaw"}}})
		}
	case "/v1/chat/completions":
		g.completions(l, w, r)
	case simPath:
		g.serveSim(w, r)
	default:
		http.Error(w, "Not Found", http.StatusNotFound)
	}
}

func onlyRead(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	body := encode(v)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	if _, err := w.Write(body); err != nil {
		return // the client has gone; there is nobody to tell
	}
}

func (g *Gateway) startupz(l *life, w http.ResponseWriter, r *http.Request) {
	if !onlyRead(w, r) {
		return
	}
	g.mu.Lock()
	ready, draining, uptime := l.ready, l.drain != nil, g.uptimeMs()
	g.mu.Unlock()
	switch {
	case draining:
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"ok": false, "status": "draining", "version": g.cfg.Version, "uptimeMs": uptime})
	case !ready:
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"ok": false, "status": "starting", "version": g.cfg.Version, "uptimeMs": uptime})
	default:
		writeJSON(w, http.StatusOK, map[string]any{"ok": true, "status": "started", "version": g.cfg.Version, "uptimeMs": uptime})
	}
}

func (g *Gateway) readyz(l *life, w http.ResponseWriter, r *http.Request) {
	if !onlyRead(w, r) {
		return
	}
	g.mu.Lock()
	failing := []string{}
	if !l.ready {
		failing = append(failing, "startup-sidecars")
	}
	if l.drain != nil {
		failing = append(failing, "gateway-draining")
	}
	if l.suspend.phase != phaseAccepting {
		failing = append(failing, "gateway-suspending")
	}
	body := map[string]any{"ready": len(failing) == 0, "failing": failing, "uptimeMs": g.uptimeMs(), "eventLoop": g.eventLoop()}
	g.mu.Unlock()
	code := http.StatusOK
	if len(failing) > 0 {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, body)
}

func apiError(w http.ResponseWriter, code int, message, kind string) {
	writeJSON(w, code, map[string]any{"error": map[string]any{"message": message, "type": kind}})
}

func (g *Gateway) authorized(w http.ResponseWriter, r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(g.cfg.Token)) != 1 {
		apiError(w, http.StatusUnauthorized, "Unauthorized", "unauthorized")
		return false
	}
	return true
}

func portOf(addr string) int {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return n
}

func decodeBody(w http.ResponseWriter, r *http.Request, limit int64, v any, strict bool) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	if strict {
		dec.DisallowUnknownFields()
	}
	return dec.Decode(v)
}

// strictUnmarshal refuses unknown fields and trailing data.
func strictUnmarshal(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("more than one JSON value")
	}
	return nil
}
