package openclaw

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/dash-fleet/dash/messages"
)

func TestDialChecksHello(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) { p.drain() })
	c := dial(t, cfg, nil)
	h := c.Hello()
	if h.Version != "2026.9.6" || h.BootID != "boot-1" || h.ConnID != "conn-1" || h.Protocol != 4 || h.Uptime != 1234*time.Millisecond ||
		h.Suspension != "accepting" || h.Policy.MaxPayload != 25<<20 || h.Policy.TickInterval != 30*time.Second {
		t.Errorf("hello %+v", h)
	}
	if !h.Lists("agent") || h.Lists("nothing") {
		t.Error("method list is wrong")
	}
}

func TestConnectFrame(t *testing.T) {
	t.Parallel()
	params := make(chan string, 1)
	cfg := serveRaw(t, func(p *peer) {
		p.send(challenge)
		r, _ := p.recv()
		params <- string(r.Params)
		p.send(helloWith(nil))
		p.drain()
	})
	dial(t, cfg, nil)
	want := `{"minProtocol":3,"maxProtocol":4,"client":{"id":"gateway-client","version":"test","platform":"linux","mode":"backend"},` +
		`"role":"operator","scopes":["operator.read","operator.write","operator.admin","operator.approvals"],"auth":{"token":"` + testToken + `"}}`
	if got := nextOf(t, params); got != want {
		t.Errorf("connect params\n got %s\nwant %s", got, want)
	}
}

func TestHelloRefusals(t *testing.T) {
	t.Parallel()
	set := func(path string, v any) func(map[string]any) {
		return func(m map[string]any) {
			parts := strings.Split(path, ".")
			for _, p := range parts[:len(parts)-1] {
				m = m[p].(map[string]any)
			}
			m[parts[len(parts)-1]] = v
		}
	}
	for _, tt := range []struct {
		name      string
		edit      func(map[string]any)
		reason    Reason
		permanent bool
		says      string
	}{
		{"protocol 3", set("protocol", 3), ReasonProtocol, true, "2026.8.2"},
		{"protocol 5", set("protocol", 5), ReasonProtocol, true, "not offered"},
		{"no boot id", set("server.bootId", ""), ReasonVersion, true, "2026.8.2"},
		{"no scopes", set("auth.scopes", []string{}), ReasonScopes, true, "no scopes granted"},
		{"read only", set("auth.scopes", []string{"operator.read"}), ReasonScopes, true, "no scopes granted"},
		{"no auth", set("auth", nil), ReasonScopes, true, "no scopes granted"},
		{"odd types", set("server", "x"), ReasonGarbage, false, "cannot be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := serveRaw(t, func(p *peer) {
				p.send(challenge)
				p.recv()
				p.send(helloWith(tt.edit))
				p.drain()
			})
			r := refusal(t, cfg)
			if r.Reason != tt.reason || r.Permanent != tt.permanent || !strings.Contains(r.Error(), tt.says) || r.NextStep == "" {
				t.Errorf("refusal %+v\nwant %s, permanent %v, %q, a next step", r, tt.reason, tt.permanent, tt.says)
			}
		})
	}
}

func TestAdminScopeCoversAll(t *testing.T) {
	t.Parallel()
	cfg := serveRaw(t, func(p *peer) {
		p.send(challenge)
		p.recv()
		p.send(helloWith(func(m map[string]any) { m["auth"] = map[string]any{"scopes": []string{"operator.admin"}} }))
		p.drain()
	})
	dial(t, cfg, nil)
}

func TestConnectErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		reason     Reason
		permanent  bool
		after      time.Duration
	}{
		{"token", `{"code":"INVALID_REQUEST","message":"unauthorized","details":{"code":"AUTH_TOKEN_MISMATCH"}}`, ReasonToken, true, 0},
		{"protocol", `{"code":"INVALID_REQUEST","message":"protocol mismatch","details":{"expectedProtocol":4}}`, ReasonProtocol, true, 0},
		{"pairing", `{"code":"NOT_PAIRED","message":"pairing required","details":{"code":"PAIRING_REQUIRED"}}`, ReasonPairing, true, 0},
		{"device", `{"code":"INVALID_REQUEST","message":"x","details":{"code":"DEVICE_AUTH_SIGNATURE_INVALID"}}`, ReasonPairing, true, 0},
		{"origin", `{"code":"INVALID_REQUEST","message":"x","details":{"code":"CONTROL_UI_ORIGIN_NOT_ALLOWED"}}`, ReasonOrigin, true, 0},
		{"policy", `{"code":"INVALID_REQUEST","message":"unknown client id"}`, ReasonPolicy, true, 0},
		{"starting", `{"code":"UNAVAILABLE","message":"starting","retryable":true,"retryAfterMs":500,"details":{"reason":"startup-sidecars"}}`, ReasonStarting, false, 500 * time.Millisecond},
		{"draining", `{"code":"UNAVAILABLE","message":"x","retryable":true,"details":{"reason":"gateway-draining"}}`, ReasonDraining, false, 0},
		{"lock-out", `{"code":"UNAVAILABLE","message":"too many failed logins","details":{"code":"AUTH_RATE_LIMITED"}}`, ReasonLockedOut, false, 5 * time.Minute},
		{"nothing", `null`, ReasonPolicy, true, 0},
		{"no object", `[1,2]`, ReasonPolicy, true, 0},
		{"odd members", `{"code":1,"message":{},"retryable":"yes","retryAfterMs":"soon","details":[]}`, ReasonPolicy, true, 0},
		{"huge wait", `{"code":"UNAVAILABLE","message":"x","retryable":true,"retryAfterMs":1e300}`, ReasonStarting, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := serveRaw(t, func(p *peer) {
				p.send(challenge)
				r, _ := p.recv()
				p.refuse(r, tt.body)
				p.drain()
			})
			r := refusal(t, cfg)
			if r.Reason != tt.reason || r.Permanent != tt.permanent || r.RetryAfter != tt.after || r.NextStep == "" || r.Message == "" {
				t.Errorf("refusal %+v", r)
			}
		})
	}
}

func TestConnectCloses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code      websocket.StatusCode
		reason    Reason
		permanent bool
	}{
		{CloseStarting, ReasonStarting, false},
		{CloseRestart, ReasonDraining, false},
		{CloseProtocol, ReasonProtocol, true},
		{ClosePolicy, ReasonPolicy, true},
		{CloseNormal, ReasonUnreachable, false},
	} {
		t.Run(tt.code.String(), func(t *testing.T) {
			t.Parallel()
			cfg := serveRaw(t, func(p *peer) { _ = p.ws.Close(tt.code, "because") })
			r := refusal(t, cfg)
			if r.Reason != tt.reason || r.Permanent != tt.permanent || !strings.Contains(r.Message, "because") {
				t.Errorf("refusal %+v", r)
			}
		})
	}
}

func TestHandshakeGarbage(t *testing.T) {
	t.Parallel()
	event := `{"type":"event","event":"x"}`
	for name, frames := range map[string][]string{
		"not json":       {"hello"},
		"array":          {"[]"},
		"deep":           {strings.Repeat("[", 500)},
		"no challenge":   {event, event, event, event, event, event, event, event, event, event, event, event, event, event, event, event, event},
		"huge":           {`{"type":"event","event":"` + strings.Repeat("x", maxHandshakeFrame) + `"}`},
		"hello is null":  {challenge, `{"type":"res","id":"1","ok":true,"payload":null}`},
		"hello is text":  {challenge, `{"type":"res","id":"1","ok":true,"payload":"hi"}`},
		"hello is empty": {challenge, `{"type":"res","id":"1","ok":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := serveRaw(t, func(p *peer) {
				p.send(frames...)
				p.drain()
			})
			if r := refusal(t, cfg); r.Reason != ReasonGarbage || r.Permanent {
				t.Errorf("refusal %+v, want garbage, temporary", r)
			}
		})
	}
}

func TestHTTPRefusals(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]Reason{
		http.StatusServiceUnavailable: ReasonDraining,
		http.StatusUnauthorized:       ReasonPolicy,
		http.StatusNotFound:           ReasonNotGateway,
		http.StatusFound:              ReasonNotGateway,
		http.StatusOK:                 ReasonNotGateway,
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/elsewhere" {
					t.Error("followed a redirect")
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
			}))
			t.Cleanup(srv.Close)
			r := refusal(t, Config{URL: "ws" + strings.TrimPrefix(srv.URL, "http"), Token: testToken})
			if r.Reason != want {
				t.Errorf("refusal %+v, want %s", r, want)
			}
		})
	}
}

func TestUnreachableAndSilent(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "ws://" + ln.Addr().String() + "/"
	cfg := Config{URL: url, Token: testToken, DialTimeout: 100 * time.Millisecond}
	if r := refusal(t, cfg); r.Reason != ReasonUnreachable || r.Permanent { // listens, says nothing
		t.Errorf("silent: %+v", r)
	}
	ln.Close()
	if r := refusal(t, cfg); r.Reason != ReasonUnreachable || r.Permanent || !strings.HasPrefix(r.Message, "cannot talk to "+strings.TrimSuffix(url, "/")+": dial tcp ") {
		t.Errorf("refused: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, cfg, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

func TestForbiddenAddressIsNotConnectedTo(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	asked := make(chan netip.Addr, 8)
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		r := refusal(t, Config{URL: "ws://" + host + ":" + port, Token: testToken, Allow: func(_ string, a netip.AddrPort) bool { asked <- a.Addr(); return false }})
		if a := <-asked; r.Reason != ReasonAddress || !r.Permanent || r.NextStep == "" || !a.IsLoopback() || a.Is4In6() {
			t.Errorf("%s: %+v, asked about %s", host, r, a)
		}
		for len(asked) > 0 { // a name may have several addresses
			<-asked
		}
	}
	if err := ln.(*net.TCPListener).SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if c, err := ln.Accept(); err == nil {
		c.Close()
		t.Error("a forbidden address was connected to")
	}
}

func TestRequiredMethodProvenAbsent(t *testing.T) {
	t.Parallel()
	unlisted := func(m map[string]any) { m["features"] = map[string]any{"methods": []string{"agent"}} }
	for absent, ok := range map[string]bool{"": true, "sessions.abort": false} {
		t.Run("without "+absent, func(t *testing.T) {
			t.Parallel()
			cfg := serveRaw(t, func(p *peer) {
				p.send(challenge)
				p.recv()
				p.send(helloWith(unlisted))
				for {
					r, more := p.recv()
					if !more {
						return
					}
					if r.Method == absent {
						p.refuse(r, `{"code":"INVALID_REQUEST","message":"unknown method: `+absent+`"}`)
						continue
					}
					p.refuse(r, `{"code":"INVALID_REQUEST","message":"invalid params"}`)
				}
			})
			if ok {
				dial(t, cfg, nil)
				return
			}
			if r := refusal(t, cfg); r.Reason != ReasonMethods || !r.Permanent || !strings.Contains(r.Message, absent) {
				t.Errorf("refusal %+v", r)
			}
		})
	}
}

func TestTokenNeverShows(t *testing.T) {
	t.Parallel()
	cfg := serveRaw(t, func(p *peer) {
		p.send(challenge)
		r, _ := p.recv()
		p.refuse(r, `{"code":"INVALID_REQUEST","message":"your token `+testToken+` is wrong\u0000\u001b[31m\u202e"}`)
		p.drain()
	})
	r := refusal(t, cfg)
	if s := r.Error(); strings.Contains(s, testToken) || strings.ContainsAny(s, "\x00\x1b\u202e") {
		t.Errorf("error %q holds the token or control characters", s)
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	good := Config{URL: "ws://127.0.0.1:1/", Token: "x"}
	if err := good.Validate(); err != nil {
		t.Errorf("good config: %v", err)
	}
	for name, edit := range map[string]func(*Config){
		"scheme":    func(c *Config) { c.URL = "http://127.0.0.1:1/" },
		"no host":   func(c *Config) { c.URL = "ws:///x" },
		"unparsed":  func(c *Config) { c.URL = "ws://%zz" },
		"user info": func(c *Config) { c.URL = "ws://user:pw@127.0.0.1/" },
		"no token":  func(c *Config) { c.Token = messages.Secret("") },
		"negative":  func(c *Config) { c.MaxPending = -1 },
		"depth":     func(c *Config) { c.MaxDepth = maxDepthLimit + 1 },
	} {
		cfg := good
		edit(&cfg)
		if _, err := Dial(t.Context(), cfg, nil); err == nil || strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: %v, want an error without secrets", name, err)
		}
	}
	for url, want := range map[string]bool{"ws://localhost:1": true, "ws://127.0.0.2:1": true, "ws://[::1]:1": true, "ws://10.0.0.1:1": false, "ws://gw.example:1": false} {
		if got := (Config{URL: url}).Loopback(); got != want {
			t.Errorf("loopback %s: %v", url, got)
		}
	}
}
