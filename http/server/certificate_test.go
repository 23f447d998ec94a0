package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/dash-fleet/dash/http/server"
)

// onDisk writes a certificate that counts from a time to another.
func onDisk(t *testing.T, cert, key string, from, to time.Duration) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to)}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if file == "" {
			continue
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCertificateOnDisk: only one that clients can accept takes the place of one
// that they accept; the check of the node's health says what is wrong.
func TestCertificateOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := server.OpenCertificate(cert, key); err == nil {
		t.Error("a certificate that is not there was opened")
	}
	const year = 365 * 24 * time.Hour
	onDisk(t, cert, key, -time.Hour, year)
	c, err := server.OpenCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	first := c.Expires()
	if k := c.Check(); !k.OK || strings.Contains(k.Detail, "warning") {
		t.Errorf("%+v", k)
	}
	for what, change := range map[string]func(){
		"another key":     func() { onDisk(t, "", key, -time.Hour, 2*year) },
		"ended":           func() { onDisk(t, cert, key, -2*time.Hour, -time.Hour) },
		"not yet":         func() { onDisk(t, cert, key, time.Hour, 2*year) },
		"the files gone":  func() { _ = os.Remove(cert) },
		"an empty file":   func() { _ = os.WriteFile(cert, nil, 0o600) },
		"a folder inside": func() { _ = os.Remove(cert); _ = os.Mkdir(cert, 0o700) },
	} {
		change()
		if changed, err := c.Reload(); err == nil || changed {
			t.Errorf("%s: served: %v, %v", what, changed, err)
		}
		if !c.Expires().Equal(first) {
			t.Errorf("%s: the certificate that is served ends at %s, want %s", what, c.Expires(), first)
		}
		if k := c.Check(); !k.OK || !strings.HasPrefix(k.Detail, "warning: the one on disk cannot be served") {
			t.Errorf("%s: %+v", what, k)
		}
		_ = os.RemoveAll(cert)
	}
	onDisk(t, cert, key, -time.Hour, 2*24*time.Hour)
	if changed, err := c.Reload(); err != nil || !changed {
		t.Fatalf("a renewed one is not served: %v, %v", changed, err)
	}
	if changed, err := c.Reload(); err != nil || changed {
		t.Errorf("the same again: %v, %v", changed, err)
	}
	if k := c.Check(); !k.OK || !strings.HasPrefix(k.Detail, "warning: ends at") {
		t.Errorf("one that ends in two days: %+v", k)
	}
}

// TestHTTP2 is offered over TLS, bounded, beside WebSockets over HTTP/1.1.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	onDisk(t, certFile, keyFile, -time.Hour, time.Hour)
	cert, err := server.OpenCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, server.Config{Certificate: cert})
	trusting := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the test made it
	tr := &http.Transport{TLSClientConfig: trusting, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	at := "https://" + n.srv.Addr().String()
	var wg sync.WaitGroup
	for range 150 { // more than one connection may have at once
		wg.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), "POST", at+"/api/v1/tasks", strings.NewReader(`{"priority":"low","input":{"message":"x"}}`))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+admin)
			req.Header.Set("Content-Type", "application/json")
			resp, err := c.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if resp.ProtoMajor != 2 || resp.StatusCode != 202 || resp.Header.Get("Strict-Transport-Security") == "" {
				t.Errorf("%s %d %v", resp.Proto, resp.StatusCode, resp.Header)
			}
		})
	}
	wg.Wait()
	conn, _, err := websocket.Dial(t.Context(), "wss://"+n.srv.Addr().String()+"/events?since=0", &websocket.DialOptions{
		HTTPClient: c, HTTPHeader: http.Header{"Authorization": {"Bearer " + admin}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow() //nolint:errcheck // the test is over
	if err := greeted(t.Context(), conn); err != nil {
		t.Error(err)
	}
}
