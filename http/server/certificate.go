package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/messages/next"
)

// certificateEvery is the pause between two looks at the files of a certificate.
const certificateEvery = 5 * time.Second

// Certificate is the one that the server shows. It follows its files: a renewed
// one is served from the next handshake on. What cannot be served, such as one
// that is only half written, leaves the one in place that is served.
type Certificate struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]

	mu         sync.Mutex
	cert, key  []byte // the files of current
	failed     error  // why what is on disk is not served; nil: it is
	told, seen string // the failure that was logged, and that of the last look
}

// OpenCertificate reads a certificate chain and its key from PEM files.
func OpenCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	if _, err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// CertificateError: the files do not hold a certificate and its key.
type CertificateError struct{ err error }

func (e *CertificateError) Error() string { return "read TLS certificate and key: " + e.err.Error() }
func (e *CertificateError) Unwrap() error { return e.err }

// NextStep is what an operator can do.
func (e *CertificateError) NextStep() string { return next.GivePEMFiles }

// get is for tls.Config.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// Expires is when the served certificate ends.
func (c *Certificate) Expires() time.Time { return c.current.Load().Leaf.NotAfter }

// Reload reads the files and serves what they hold, and says whether that is
// another certificate than before. After an error the old one is served on.
func (c *Certificate) Reload() (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed, err = c.reload(time.Now())
	if err != nil {
		err = &CertificateError{err}
	}
	c.failed = err
	return changed, err
}

func (c *Certificate) reload(now time.Time) (bool, error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return false, err
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return false, err
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("%s and %s: %w", c.certFile, c.keyFile, err)
	}
	if old := c.current.Load(); old != nil && old.Leaf.NotAfter.After(now) {
		switch {
		case pair.Leaf.NotAfter.Before(now):
			return false, fmt.Errorf("%s ended at %s, sooner than the one that is served", c.certFile, pair.Leaf.NotAfter.Format(time.RFC3339))
		case pair.Leaf.NotBefore.After(now):
			return false, fmt.Errorf("%s counts from %s on only", c.certFile, pair.Leaf.NotBefore.Format(time.RFC3339))
		}
	}
	c.cert, c.key = cert, key
	c.current.Store(&pair)
	return true, nil
}

// Watch looks at the files again and again until ctx ends.
func (c *Certificate) Watch(ctx context.Context, logger *slog.Logger) {
	t := time.NewTicker(certificateEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.look(logger)
		}
	}
}

// look serves what is new. A failure is told when it is there at two looks one
// after the other, and once: between two writes the files may not fit together.
func (c *Certificate) look(logger *slog.Logger) {
	changed, err := c.Reload()
	c.mu.Lock()
	before, now := c.seen, ""
	if err != nil {
		now = err.Error()
	}
	tell := now != "" && now == before && now != c.told
	if tell || now == "" {
		c.told = now
	}
	c.seen = now
	c.mu.Unlock()
	switch {
	case changed:
		logger.Info("a renewed certificate is served", slog.Time("expires", c.Expires()))
	case tell:
		logger.Warn("the certificate on disk cannot be served, the old one is served on", slog.Time("expires", c.Expires()), slog.Any("err", err))
	}
}

// certificateSoon is when the end of a certificate is worth a warning. Those
// that are renewed by a machine are renewed earlier.
const certificateSoon = 7 * 24 * time.Hour

// Check is for the health of the node; a certificate takes no work away.
func (c *Certificate) Check() Check {
	c.mu.Lock()
	failed := c.failed
	c.mu.Unlock()
	ends := c.Expires()
	k := Check{Name: "certificate", OK: true, Detail: "ends at " + ends.Format(time.RFC3339)}
	switch left := time.Until(ends); {
	case left <= 0:
		k.Detail = "warning: ended at " + ends.Format(time.RFC3339) + ": clients refuse it"
	case failed != nil:
		k.Detail = "warning: the one on disk cannot be served: " + failed.Error() + "; the old one " + k.Detail
	case left < certificateSoon:
		k.Detail = "warning: " + k.Detail
	}
	return k
}

// config is what a listener needs.
func (c *Certificate) config() *tls.Config {
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
}

var tlsExpiry = prometheus.NewDesc("dash_tls_expiry_seconds", "Time until the certificate of the API ends; below zero it has ended. No series without TLS.", nil, nil)

// Describe implements prometheus.Collector.
func (c *Certificate) Describe(ch chan<- *prometheus.Desc) { ch <- tlsExpiry }

// Collect implements prometheus.Collector, also for no certificate.
func (c *Certificate) Collect(ch chan<- prometheus.Metric) {
	if c != nil {
		ch <- prometheus.MustNewConstMetric(tlsExpiry, prometheus.GaugeValue, time.Until(c.Expires()).Seconds())
	}
}
