package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"

	"github.com/coder/websocket"

	"github.com/dash-fleet/dash/messages/next"
)

// The handshake reads at most this much and this many frames before hello.
const (
	maxHandshakeFrame  = 4 << 20
	maxHandshakeFrames = 16
)

// Dial opens a connection and proves that the gateway behind it can be used:
// protocol 4, boot id, scopes, methods. Every failure is a *RefusedError, or
// the error of Config.Validate. ctx bounds the dialling only. handler may be
// called before Dial returns; nil means nobody listens.
func Dial(ctx context.Context, cfg Config, handler Handler) (*Conn, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if handler == nil {
		handler = NopHandler{}
	}
	c := newConn(ctx, cfg, handler)
	dialCtx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	err := c.open(dialCtx)
	if err == nil {
		c.start()
		err = c.checkMethods(dialCtx)
	}
	if err != nil {
		c.abandon()
		var refused *RefusedError
		if !errors.As(err, &refused) {
			refused = c.refuseIO(err)
		}
		cfg.Metrics.connects.WithLabelValues(string(refused.Reason)).Inc()
		return nil, refused
	}
	cfg.Metrics.connects.WithLabelValues("ok").Inc()
	return c, nil
}

// open does TCP, the upgrade and the handshake.
func (c *Conn) open(ctx context.Context) error {
	dialer := &net.Dialer{Control: c.cfg.control}
	// The transport goes on dialling after a deadline, and closes what it then gets.
	var dialled atomic.Pointer[net.Conn]
	transport := &http.Transport{
		Proxy:                  nil, // a gateway is reached directly, whatever the environment says
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			raw, err := dialer.DialContext(ctx, network, addr)
			if err == nil {
				dialled.Store(&raw)
			}
			return raw, err
		},
	}
	ws, resp, err := websocket.Dial(ctx, c.cfg.URL, &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		CompressionMode: websocket.CompressionDisabled,
	})
	if raw := dialled.Load(); raw != nil {
		c.raw = *raw
	}
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return refuseHTTP(resp.StatusCode)
		}
		return err
	}
	c.ws = ws
	ws.SetReadLimit(min(maxHandshakeFrame, c.cfg.MaxFrame))
	if err := c.handshake(ctx); err != nil {
		return err
	}
	ws.SetReadLimit(c.cfg.MaxFrame)
	return nil
}

type connectParams struct {
	MinProtocol int           `json:"minProtocol"`
	MaxProtocol int           `json:"maxProtocol"`
	Client      connectClient `json:"client"`
	Role        string        `json:"role"`
	Scopes      []string      `json:"scopes"`
	Auth        connectAuth   `json:"auth"`
}

type connectClient struct {
	ID       string `json:"id"`
	Version  string `json:"version"`
	Platform string `json:"platform"`
	Mode     string `json:"mode"`
}

type connectAuth struct {
	Token string `json:"token"`
}

const connectID = "1"

func (c *Conn) handshake(ctx context.Context) error {
	if _, err := c.await(ctx, "connect.challenge", frame.isChallenge); err != nil {
		return err
	}
	params, err := json.Marshal(connectParams{
		MinProtocol: 3, MaxProtocol: 4,
		Client: connectClient{ID: "gateway-client", Version: c.cfg.Version, Platform: runtime.GOOS, Mode: "backend"},
		Role:   "operator",
		Scopes: scopesWanted[:],
		Auth:   connectAuth{Token: c.cfg.Token.Reveal()},
	})
	if err != nil {
		return fmt.Errorf("encode connect: %w", err)
	}
	req := appendRequest(1, "connect", "", params)
	if err := c.ws.Write(ctx, websocket.MessageText, req); err != nil {
		return err
	}
	c.cfg.Metrics.out(len(req))
	f, err := c.await(ctx, "hello", frame.isHello)
	if err != nil {
		return err
	}
	if !f.ok {
		return c.refuseConnect(decodeError("connect", f.err, c.cfg.MaxDepth, c.clean))
	}
	hello, err := decodeHello(f.payload)
	if err != nil {
		return &RefusedError{Reason: ReasonGarbage, Message: "the gateway's hello cannot be read: " + c.clean.text(err.Error()),
			NextStep: next.CheckOpenClawURL, Err: err}
	}
	c.hello = hello
	if refused := hello.check(c.cfg.Loopback()); refused != nil {
		return refused
	}
	return nil
}

func (f frame) isChallenge() bool { return f.kind == frameEvent && f.event == "connect.challenge" }
func (f frame) isHello() bool     { return f.kind == frameResponse && f.id == connectID }

// await reads until the wanted frame and skips a few others.
func (c *Conn) await(ctx context.Context, what string, wanted func(frame) bool) (frame, error) {
	for range maxHandshakeFrames {
		b, err := c.readFrame(ctx)
		if err != nil {
			return frame{}, err
		}
		if b == nil {
			continue
		}
		f, err := decodeFrame(b, c.cfg.MaxDepth)
		if err != nil {
			return frame{}, &RefusedError{Reason: ReasonGarbage, Message: "the handshake is not the gateway protocol: " + err.Error(),
				NextStep: next.CheckOpenClawURL, Err: err}
		}
		if wanted(f) {
			return f, nil
		}
	}
	return frame{}, &RefusedError{Reason: ReasonGarbage, Message: "no " + what + " among the first frames",
		NextStep: next.CheckOpenClawURL}
}

// checkMethods tries the required methods that hello did not list.
func (c *Conn) checkMethods(ctx context.Context) error {
	for _, m := range requiredMethods {
		if c.hello.Lists(m.name) {
			continue
		}
		err := c.Call(ctx, m.name, json.RawMessage(m.params), nil)
		var rpc *RPCError
		var lost *LostError
		switch {
		case errors.As(err, &rpc) && rpc.UnknownMethod():
			return &RefusedError{Reason: ReasonMethods, Permanent: true, Version: c.hello.Version, Err: err,
				Message:  "the gateway has no method " + m.name,
				NextStep: fmt.Sprintf(next.UpdateOpenClaw, minimumVersion)}
		case errors.As(err, &lost), errors.Is(err, ErrClosed):
			return err
		}
	}
	return nil
}

// abandon ends a connection that Dial does not hand out.
func (c *Conn) abandon() {
	if c.started {
		c.Close()
		return
	}
	c.giveBack() // the handshake may have ended with a large frame
	if c.ws != nil {
		// Told, not waited for: a refused gateway gets no more of our time.
		c.cut(ErrClosed)
		if err := c.ws.CloseNow(); err != nil && !errors.Is(err, net.ErrClosed) {
			c.cfg.Metrics.closes.WithLabelValues("close_error").Inc()
		}
		return
	}
	if c.raw != nil {
		c.cut(ErrClosed)
	}
}
