package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRenewedCertificate: what is on disk is served, after SIGHUP at once and
// without it soon; what cannot be served changes nothing. SIGHUP also reads the
// settings again, and no signal ends the node without a clean stop.
func TestRenewedCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, settings := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "dash.yaml")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	renew := func(serial int64) {
		t.Helper()
		c, k := selfSigned(t, serial)
		write(cert, c)
		write(key, k)
	}
	renew(1)
	write(settings, "log-level: info\nretention: 1h\n")
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	read, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := drillCommand(t.Context(), t, "serve", "--config", settings, "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)
	cmd.Stdout, cmd.Stderr = out, logFile
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // fails when it was ended as it should be
	_ = out.Close()
	u, err := url.Parse(readUntilReady(t, read))
	if err != nil {
		t.Fatal(err)
	}
	serves := func(serial int64) bool { return servedSerial(t, u.Host) == serial }
	logged := func(text string) func() bool {
		return func() bool {
			raw, err := os.ReadFile(logFile.Name())
			return err == nil && bytes.Contains(raw, []byte(text))
		}
	}
	hup := func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatalf("the node is gone: %v", err)
		}
	}
	if !serves(1) {
		t.Fatal("the first certificate is not served")
	}

	write(cert, "-----BEGIN CERTIFICATE-----\nhalf of i")
	hup()
	drillUntil(t, "the log names the certificate that is half written", logged("cannot be served"))
	if !serves(1) {
		t.Error("the old certificate is not served while the new one is half written")
	}

	renew(2)
	write(settings, "log-level: debug\nretention: 2h\n")
	hup()
	drillUntil(t, "the renewed certificate is served after SIGHUP", func() bool { return serves(2) })
	drillUntil(t, "the log says what holds and what does not", logged("changed settings take effect at the next start"))
	drillUntil(t, "the level of the log is another", logged(`"log_level":"debug"`))

	renew(3)
	drillUntil(t, "a renewed certificate is served without a signal", func() bool { return serves(3) })

	if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGUSR1 ended the node with %v", err)
	}
	raw, err := os.ReadFile(logFile.Name())
	if err != nil || !strings.Contains(string(raw), `"msg":"stopping"`) {
		t.Errorf("SIGUSR1 ended the node without a line: %v\n%s", err, raw)
	}
}

// servedSerial is the number of the certificate that a new connection gets.
func servedSerial(t *testing.T, host string) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", host, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// selfSigned makes a certificate and its key as PEM.
func selfSigned(t *testing.T, serial int64) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}
