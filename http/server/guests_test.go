package server_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/dash-fleet/dash/http/server"
)

// dialEvents opens the WebSocket, with a credential in its header if one is given.
func (n *node) dialEvents(token, from string) (*websocket.Conn, *http.Response, error) {
	h := http.Header{}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	if from != "" {
		h.Set("X-Forwarded-For", from)
	}
	return websocket.Dial(n.t.Context(), n.base+"/events?since=0", &websocket.DialOptions{HTTPHeader: h, HTTPClient: &http.Client{Transport: n.plain}})
}

// greeted reports whether the WebSocket is told where its stream begins.
func greeted(ctx context.Context, conn *websocket.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, _, err := conn.Read(ctx)
	return err
}

// TestSilentSocketsTakeNobodysPlace: a WebSocket that has not said who it is has
// no place among the streams; there are few of them, and the oldest goes.
func TestSilentSocketsTakeNobodysPlace(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxStreams: 4, MaxGuests: 16})
	var silent []*websocket.Conn
	for range 10 { // more than all streams, and than guests of one address
		conn, resp, err := n.dialEvents("", "")
		if err != nil {
			t.Fatalf("%v %v", resp, err)
		}
		defer conn.CloseNow() //nolint:errcheck // it may be closed
		silent = append(silent, conn)
	}
	conn, _, err := n.dialEvents(admin, "")
	if err != nil {
		t.Fatalf("a stream with a credential: %v", err)
	}
	defer conn.CloseNow() //nolint:errcheck // the test is over
	if err := greeted(t.Context(), conn); err != nil {
		t.Errorf("a stream with a credential: %v", err)
	}
	var closed websocket.CloseError
	if err := greeted(t.Context(), silent[0]); !errors.As(err, &closed) || closed.Code != websocket.StatusTryAgainLater {
		t.Errorf("the oldest silent socket ended with %v, want 1013", err)
	}
	late := silent[len(silent)-1]
	if err := late.Write(t.Context(), websocket.MessageText, []byte(`{"type":"auth","token":"`+admin+`"}`)); err != nil {
		t.Fatal(err)
	}
	if err := greeted(t.Context(), late); err != nil {
		t.Errorf("one that says who it is: %v", err)
	}
	// Two of four are one key's half.
	if _, resp, err := n.dialEvents(admin, ""); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a key's third stream of four: %v %v", resp, err)
	}
	inBand := silent[len(silent)-2]
	if err := inBand.Write(t.Context(), websocket.MessageText, []byte(`{"type":"auth","token":"`+admin+`"}`)); err != nil {
		t.Fatal(err)
	}
	if err := greeted(t.Context(), inBand); !errors.As(err, &closed) || closed.Code != websocket.StatusTryAgainLater {
		t.Errorf("a key's third stream, credential in the first frame: %v, want 1013", err)
	}
	other, _, err := n.dialEvents(paced, "")
	if err != nil {
		t.Fatalf("another key's stream: %v", err)
	}
	_ = other.CloseNow()
}

// TestGuestsOfOneAddressLeaveOthersAlone: addresses are what a trusted proxy says.
func TestGuestsOfOneAddressLeaveOthersAlone(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxGuests: 16, TrustedProxies: loopback})
	quiet, _, err := n.dialEvents("", "198.51.100.1")
	if err != nil {
		t.Fatal(err)
	}
	defer quiet.CloseNow() //nolint:errcheck // the test is over
	for range 40 {
		conn, _, err := n.dialEvents("", "203.0.113.7")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow() //nolint:errcheck // it may be closed
	}
	if err := quiet.Write(t.Context(), websocket.MessageText, []byte(`{"type":"auth","token":"`+admin+`"}`)); err != nil {
		t.Fatal(err)
	}
	if err := greeted(t.Context(), quiet); err != nil {
		t.Errorf("a socket of another address: %v", err)
	}
}
