package openclaw

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Defaults of Config. The frame limit is the gateway's own policy.maxPayload;
// a healthy gateway nests about ten levels deep.
const (
	DefaultMaxFrame      = 25 << 20
	DefaultMaxDepth      = 64
	DefaultMaxText       = 4 << 20
	DefaultMaxPending    = 4096
	DefaultMaxQueued     = 1024
	DefaultMaxQueueBytes = 32 << 20
	DefaultMaxBadFrames  = 64
	DefaultDialTimeout   = 15 * time.Second
	DefaultCallTimeout   = 30 * time.Second
	DefaultWriteTimeout  = 10 * time.Second
	DefaultSilenceFloor  = 5 * time.Second

	// FreeText is how long a reply may be, in bytes, that is not counted.
	FreeText = 64 << 10
	// MaxRunText is the longest running text that an event brings, in bytes;
	// longer ones are cut at the end.
	MaxRunText = 256 << 10

	maxDepthLimit = 256 // the bracket stack of the scanner
)

// Config says how to reach one gateway. Zero values of the limits mean the
// defaults above.
type Config struct {
	// URL is ws://host:port/ or wss://host:port/, without user info.
	URL string
	// Token is the gateway's shared secret. It is sent in the connect frame and
	// nowhere else, and is cut out of every text that came from the gateway.
	Token messages.Secret
	// Version is what the client calls itself in the handshake.
	Version string

	// MaxFrame is the largest incoming frame in bytes; a larger one ends the
	// connection. MaxDepth is the deepest JSON nesting (at most 256).
	MaxFrame int64
	MaxDepth int
	// MaxText is the longest reply text kept, in bytes; longer ones are cut and
	// marked.
	MaxText int
	// Hold is asked, on the reader, before a reply of more than FreeText bytes to
	// the run is handed on. It may wait for what is kept of the gateway to become
	// less; an error ends the connection, and the reply is found again in the
	// transcript. nil: there is always room.
	Hold func(runID string, bytes int) error
	// MaxPending bounds requests without an answer, MaxQueued and MaxQueueBytes
	// the frames that wait for the socket. Beyond them calls fail with ErrBusy.
	MaxPending    int
	MaxQueued     int
	MaxQueueBytes int
	// MaxBadFrames is how many undecodable frames are ignored and counted before
	// the connection is cut.
	MaxBadFrames int

	// DialTimeout bounds TCP, TLS, HTTP upgrade and handshake together.
	DialTimeout time.Duration
	// CallTimeout is used for blocking calls whose context has no deadline.
	CallTimeout time.Duration
	// WriteTimeout bounds the write of one frame.
	WriteTimeout time.Duration
	// SilenceFloor is the shortest silence after which the link counts as dead.
	// The rule is two tick intervals of the gateway's policy without any frame.
	SilenceFloor time.Duration

	// Allow decides about each address right before it is connected to, so that
	// a name that means another machine today is refused; host is the URL's. nil
	// allows all.
	Allow func(host string, at netip.AddrPort) bool

	// Metrics counts what is ignored and lost; nil counts into nothing.
	Metrics *Metrics
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	if c.MaxFrame == 0 {
		c.MaxFrame = DefaultMaxFrame
	}
	def(&c.MaxDepth, DefaultMaxDepth)
	def(&c.MaxText, DefaultMaxText)
	def(&c.MaxPending, DefaultMaxPending)
	def(&c.MaxQueued, DefaultMaxQueued)
	def(&c.MaxQueueBytes, DefaultMaxQueueBytes)
	def(&c.MaxBadFrames, DefaultMaxBadFrames)
	dur(&c.DialTimeout, DefaultDialTimeout)
	dur(&c.CallTimeout, DefaultCallTimeout)
	dur(&c.WriteTimeout, DefaultWriteTimeout)
	dur(&c.SilenceFloor, DefaultSilenceFloor)
	if c.Version == "" {
		c.Version = "0.0.0"
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	return c
}

// Validate reports the first thing that makes a connection impossible.
func (c Config) Validate() error {
	u, err := url.Parse(c.URL)
	if err != nil {
		// The parse error quotes its input, which may hold a secret.
		return errors.New("gateway url: cannot be parsed; use ws://host:port/")
	}
	if u.Scheme != "ws" && u.Scheme != "wss" {
		return fmt.Errorf("gateway url: scheme %q; use ws:// or wss://", clean(u.Scheme, 16))
	}
	if u.Hostname() == "" {
		return errors.New("gateway url: no host; use ws://host:port/")
	}
	if u.User != nil {
		return errors.New("gateway url: user info is not allowed; give the token as token")
	}
	if c.Token.Empty() {
		return errors.New("gateway token: empty; set the gateway's shared token")
	}
	for name, v := range map[string]int64{
		"max frame": c.MaxFrame, "max depth": int64(c.MaxDepth), "max text": int64(c.MaxText),
		"max pending": int64(c.MaxPending), "max queued": int64(c.MaxQueued),
		"max queue bytes": int64(c.MaxQueueBytes), "max bad frames": int64(c.MaxBadFrames),
		"dial timeout": int64(c.DialTimeout), "call timeout": int64(c.CallTimeout),
		"write timeout": int64(c.WriteTimeout), "silence floor": int64(c.SilenceFloor),
	} {
		if v < 0 {
			return fmt.Errorf("gateway %s: negative; leave it out for the default", name)
		}
	}
	if c.MaxDepth > maxDepthLimit {
		return fmt.Errorf("gateway max depth: %d; at most %d", c.MaxDepth, maxDepthLimit)
	}
	return nil
}

// Loopback reports whether the URL names this machine. Only there a gateway
// grants scopes to a client without a paired device key.
func (c Config) Loopback() bool {
	u, err := url.Parse(c.URL)
	if err != nil {
		return false
	}
	if u.Hostname() == "localhost" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return ip != nil && ip.IsLoopback()
}

// control lets a socket be connected only to an allowed address.
func (c Config) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address of the gateway: %w", err)
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return fmt.Errorf("URL of the gateway: %w", err)
	}
	if c.Allow == nil || c.Allow(u.Hostname(), netip.AddrPortFrom(at.Addr().Unmap(), at.Port())) {
		return nil
	}
	return &RefusedError{
		Reason: ReasonAddress, Permanent: true,
		Message:  "the address " + at.String() + " that the gateway's URL leads to is none that a gateway may have under that name",
		NextStep: next.CorrectURLOrNetwork,
	}
}

// safeURL is the part of the URL that may appear in errors.
func (c Config) safeURL() string {
	u, err := url.Parse(c.URL)
	if err != nil {
		return "the gateway"
	}
	return clean(u.Scheme+"://"+u.Host, 128)
}
