package events_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/events"
)

// dial opens a WebSocket; an empty token sends no header.
func (r *rig) dial(token string) (conn *websocket.Conn, next func() api.EventMessage, send func(string)) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	r.t.Cleanup(cancel)
	opts := &websocket.DialOptions{HTTPClient: r.http, HTTPHeader: http.Header{}}
	if token != "" {
		opts.HTTPHeader.Set("Authorization", "Bearer "+token)
	}
	conn, _, err := websocket.Dial(ctx, r.url+"/ws", opts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.CloseNow() })
	next = func() (m api.EventMessage) {
		r.t.Helper()
		_, b, err := conn.Read(ctx)
		if err != nil {
			r.t.Fatalf("read: %v", err)
		}
		if err := json.Unmarshal(b, &m); err != nil {
			r.t.Fatal(err)
		}
		return m
	}
	send = func(s string) {
		r.t.Helper()
		if err := conn.Write(ctx, websocket.MessageText, []byte(s)); err != nil {
			r.t.Fatal(err)
		}
	}
	return conn, next, send
}

func TestSocketByHeader(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{SubscribeIn: time.Millisecond})
	r.publish(3, "a", "default")
	_, next, send := r.dial("good")
	if s := data[api.Subscribed](t, next()); s.Since != 3 || len(s.Topics) != 1 || s.Topics[0] != "*" {
		t.Fatalf("%+v", s)
	}
	r.publish(1, "a", "default")
	if m := next(); *m.Seq != 4 || m.Type != "task.state" || m.Time == nil || data[api.TaskChanged](t, m).Id != "a" {
		t.Fatalf("%+v", m)
	}
	send(`{"type":"subscribe","topics":["task.b.*"],"since":0}`)
	if s := data[api.Subscribed](t, next()); s.Since != 0 || s.Topics[0] != "task.b.*" {
		t.Fatalf("%+v", s)
	}
	r.publish(1, "b", "default")
	if m := next(); *m.Seq != 5 {
		t.Fatalf("%+v", m)
	}
}

func TestSocketByFirstFrame(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{SubscribeIn: time.Minute})
	r.publish(2, "a", "default")
	r.publish(1, "b", "t1")
	r.Trim(1)
	_, next, send := r.dial("")
	send(`{"type":"auth","token":"t1"}`)
	send(`{"type":"subscribe","since":0}`)
	if s := data[api.Subscribed](t, next()); s.Since != 0 {
		t.Fatalf("%+v", s)
	}
	if m := next(); m.Type != "gap" || *m.From != 1 || *m.To != 1 {
		t.Fatalf("%+v", m)
	}
	if m := next(); *m.Seq != 3 || data[api.TaskChanged](t, m).Tenant != "t1" {
		t.Fatalf("another tenant's event, or none: %+v", m)
	}
}

func TestSocketCloses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		token string
		frame string
		do    func(*rig)
		want  websocket.StatusCode
	}{
		"wrong token":       {frame: `{"type":"auth","token":"bad"}`, want: events.CloseCredential},
		"no token":          {frame: `{"type":"subscribe"}`, want: events.CloseCredential},
		"silence":           {want: events.CloseCredential},
		"lacks permission":  {frame: `{"type":"auth","token":"weak"}`, want: events.CloseForbidden},
		"garbage":           {token: "good", frame: `{"type":`, want: websocket.StatusPolicyViolation},
		"unknown field":     {token: "good", frame: `{"type":"subscribe","x":1}`, want: websocket.StatusPolicyViolation},
		"bad topic":         {token: "good", frame: `{"type":"subscribe","topics":["pool.*"]}`, want: websocket.StatusPolicyViolation},
		"too large":         {token: "good", frame: `{"type":"subscribe","topics":["` + strings.Repeat("x", 20_000) + `"]}`, want: websocket.StatusMessageTooBig},
		"credential ends":   {token: "good", do: func(r *rig) { r.gate.revoke() }, want: events.CloseCredential},
		"too slow":          {token: "good", do: func(r *rig) { r.waitWatchers(2); r.Cut() }, want: events.CloseSlow},
		"log does not work": {token: "good", do: func(r *rig) { r.breakLog() }, frame: `{"type":"subscribe","since":0}`, want: websocket.StatusTryAgainLater},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := events.Config{Heartbeat: 10 * time.Millisecond, SubscribeIn: time.Millisecond}
			if name == "silence" {
				cfg.AuthTimeout = 50 * time.Millisecond
			}
			r := setup(t, cfg)
			conn, _, send := r.dial(c.token)
			if c.do != nil {
				c.do(r)
			}
			if c.frame != "" {
				send(c.frame)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for {
				_, _, err := conn.Read(ctx)
				if err == nil {
					continue
				}
				var closed websocket.CloseError
				if !errors.As(err, &closed) || closed.Code != c.want {
					t.Errorf("closed with %v, want %d", err, c.want)
				}
				return
			}
		})
	}
}

// breakLog makes the log fail from now on.
func (r *rig) breakLog() {
	r.waitWatchers(2)
	r.SetFail(func(context.Context, string) error { return errors.New("disk full") })
}
