package testserver_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/dash-fleet/dash/persistence/testserver"
)

// echo is a server that answers each line with itself and tells what it got.
func echo(t *testing.T) (addr string, got <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					lines <- line
					if _, err := io.WriteString(c, line); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String(), lines
}

type client struct {
	*net.TCPConn
	r *bufio.Reader
}

func dial(t *testing.T, p *testserver.Proxy) *client {
	t.Helper()
	c, err := net.Dial("tcp4", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &client{c.(*net.TCPConn), bufio.NewReader(c)}
}

func (c *client) ask(line string) (string, error) {
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	return c.r.ReadString('\n')
}

func wantAnswer(t *testing.T, c *client, line string) {
	t.Helper()
	if got, err := c.ask(line); err != nil || got != line+"\n" {
		t.Fatalf("answer %q, %v, want %q", got, err, line)
	}
}

func wantReset(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Fatalf("got %v, want a reset", err)
	}
}

// wantRefusal connects and is reset, which may show before connect returns.
func wantRefusal(t *testing.T, p *testserver.Proxy) {
	t.Helper()
	c, err := net.Dial("tcp4", p.Addr())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	wantReset(t, err)
}

func TestProxyForwardsAndCuts(t *testing.T) {
	t.Parallel()
	addr, _ := echo(t)
	p := testserver.NewProxy(t, addr)
	one, two := dial(t, p), dial(t, p)
	wantAnswer(t, one, "hello")
	wantAnswer(t, two, "hello")
	if n := p.Cut(); n != 2 {
		t.Fatalf("cut %d, want 2", n)
	}
	_, err := one.r.ReadString('\n')
	wantReset(t, err)
	wantAnswer(t, dial(t, p), "again")

	p.Refuse(true)
	wantRefusal(t, p)
	p.Refuse(false)
	wantAnswer(t, dial(t, p), "and again")
}

func TestProxyPassesAnEndOn(t *testing.T) {
	t.Parallel()
	addr, _ := echo(t)
	c := dial(t, testserver.NewProxy(t, addr))
	wantAnswer(t, c, "last")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.r.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want the end", err)
	}
}

func TestProxyCutsAtItsMoment(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		at   testserver.Moment
		seen bool // whether the server must have seen the line
	}{{"before", testserver.BeforeForward, false}, {"answered", testserver.AfterAnswer, true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr, got := echo(t)
			p := testserver.NewProxy(t, addr)
			c := dial(t, p)
			sprung := p.CutOn(func(chunk []byte) bool { return string(chunk) == "COMMIT\n" }, tt.at)
			wantAnswer(t, c, "BEGIN")
			<-got
			_, err := c.ask("COMMIT")
			wantReset(t, err)
			<-sprung
			if seen := len(got) == 1; seen != tt.seen {
				t.Fatalf("the server saw it: %v, want %v", seen, tt.seen)
			}
			wantAnswer(t, dial(t, p), "COMMIT") // the trap fires once
		})
	}
	t.Run("forwarded", func(t *testing.T) {
		t.Parallel()
		addr, _ := echo(t)
		p := testserver.NewProxy(t, addr)
		c := dial(t, p)
		sprung := p.CutOn(func([]byte) bool { return true }, testserver.AfterForward)
		_, err := c.ask("COMMIT")
		wantReset(t, err)
		<-sprung
	})
}

func TestProxyBlackHoleLosesNothing(t *testing.T) {
	t.Parallel()
	addr, got := echo(t)
	p := testserver.NewProxy(t, addr)
	c := dial(t, p)
	wantAnswer(t, c, "before")
	<-got
	p.BlackHole(true)
	if _, err := io.WriteString(c, "during\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.r.ReadString('\n'); !isTimeout(err) {
		t.Fatalf("got %v, want silence", err)
	}
	p.BlackHole(false)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if line, err := c.r.ReadString('\n'); err != nil || line != "during\n" {
		t.Fatalf("after the hole: %q, %v", line, err)
	}
	p.BlackHole(true) // Close does not wait for the hole to end
	if _, err := io.WriteString(c, "never\n"); err != nil {
		t.Fatal(err)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestProxyDelays(t *testing.T) {
	t.Parallel()
	addr, _ := echo(t)
	p := testserver.NewProxy(t, addr)
	c := dial(t, p)
	const each = 30 * time.Millisecond
	p.Delay(each)
	began := time.Now()
	wantAnswer(t, c, "slow")
	if took := time.Since(began); took < 2*each {
		t.Fatalf("a round trip took %v, want at least %v", took, 2*each)
	}
}
