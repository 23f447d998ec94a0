package app

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/engine"
	"github.com/dash-fleet/dash/cmd/internal/secrets"
	"github.com/dash-fleet/dash/persistence/backup"
)

// TestForgedArchiveIsRefused: an archive counts only with the signature of a key
// that the target holds, and nothing is written before that is known.
func TestForgedArchiveIsRefused(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Listen, cfg.Data = "127.0.0.1:0", t.TempDir()
	if err := must(startNode(t, cfg, "n", cfg.Data))(t).Stop(); err != nil {
		t.Fatal(err)
	}
	archive := func(sign func([]byte) backup.Signature) []byte {
		t.Helper()
		src := must(engine.OpenSource(t.Context(), cfg))(t)
		snap := must(src.Snapshot(t.Context()))(t)
		var b bytes.Buffer
		must(backup.Write(t.Context(), &b, snap, backup.Options{Sign: sign}))(t)
		if err := errors.Join(snap.Close(), src.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	own := must(secrets.Signer(cfg))(t)
	other := cfg
	other.SecretKeyFile = filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other.SecretKeyFile, []byte(secretLine(9)), 0o600); err != nil {
		t.Fatal(err)
	}
	key := own(nil).Key
	for name, c := range map[string]struct {
		archive []byte
		trusted bool
	}{
		"own":         {archive(own), true},
		"unsigned":    {archive(nil), false},
		"other key":   {archive(must(secrets.Signer(other))(t)), false},
		"of another":  {archive(func([]byte) backup.Signature { return own([]byte("another archive")) }), false},
		"wrong bytes": {archive(func([]byte) backup.Signature { return backup.Signature{Key: key, MAC: make([]byte, 32)} }), false},
	} {
		target := config.Default()
		target.Data, target.SecretKeyFile = filepath.Join(t.TempDir(), "new"), cfg.SecretKeyPath()
		trust := must(secrets.Verifier(target))(t)
		to := must(engine.OpenTarget(t.Context(), target))(t)
		_, err := backup.Restore(t.Context(), to, bytes.NewReader(c.archive), nil, trust, nil)
		if cerr := to.Close(); cerr != nil {
			t.Fatal(cerr)
		}
		var untrusted *secrets.UntrustedError
		if c.trusted != (err == nil) || !c.trusted && !errors.As(err, &untrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
