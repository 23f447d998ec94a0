// Package secrets holds the keys of a node that seal the gateways' secrets in the
// store and sign archives.
package secrets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
	"github.com/dash-fleet/dash/persistence/sealed"
)

// Error refuses a node that cannot open what its store holds.
type Error struct {
	File, KeyID string
	Err         error
}

func (e *Error) Error() string {
	if e.KeyID == "" {
		return e.Err.Error()
	}
	if e.File == "" {
		return e.Err.Error() + ", and this node was given no key file"
	}
	return e.Err.Error() + ", which " + e.File + " does not hold"
}

// NextStep says what an operator can do.
func (e *Error) NextStep() string {
	switch {
	case e.KeyID == "":
		return next.RemoveTamperedGateway
	case e.File == "":
		return fmt.Sprintf(next.NameSecretKey, e.KeyID)
	}
	return fmt.Sprintf(next.BringSecretKey, e.File, e.KeyID)
}

func (e *Error) Unwrap() error { return e.Err }

// Secrets are the keys of this node and the rows that they open.
type Secrets struct {
	Gateways *sealed.Repository // in front of the engine's
	keys     *sealed.Keys
	path     string // of the key file; empty: there is none
	logger   *slog.Logger
}

// Open puts the keys of this node between the store and the rest, and
// proves that every row opens: a wrong key is found at the start and not when
// this node takes over. What is sealed later is looked at while it stands by.
func Open(ctx context.Context, rows persistence.Gateways, cfg config.Config, logger *slog.Logger) (*Secrets, error) {
	keys, missing, err := read(cfg)
	if err != nil {
		return nil, err
	}
	s := &Secrets{Gateways: sealed.Gateways(rows, keys), keys: keys, path: cfg.SecretKeyPath(), logger: logger}
	if err := s.Check(ctx); err != nil {
		return nil, err
	}
	if missing { // and nothing is sealed: this is the store's first start with keys
		if s.keys, err = s.first(); err != nil {
			return nil, err
		}
		s.Gateways = sealed.Gateways(rows, s.keys)
	}
	s.warn()
	return s, nil
}

// read reads the keys that are configured: none without a file, or where
// the default one is missing.
func read(cfg config.Config) (keys *sealed.Keys, missing bool, err error) {
	path := cfg.SecretKeyPath()
	if path == "" {
		return &sealed.Keys{}, false, nil
	}
	keys, err = sealed.Read(path)
	if errors.Is(err, fs.ErrNotExist) && cfg.SecretKeyFile == "" {
		return &sealed.Keys{}, true, nil
	}
	return keys, false, err
}

// Check proves that every row opens; an *Error says which key is missing, if one is.
func (s *Secrets) Check(ctx context.Context) error {
	err := s.Gateways.Check(ctx)
	var wrong *sealed.GatewayError
	if !errors.As(err, &wrong) {
		return err
	}
	e := &Error{File: s.path, Err: wrong}
	var unknown *sealed.MissingError
	if errors.As(err, &unknown) {
		e.KeyID = unknown.KeyID
	}
	return e
}

func (s *Secrets) first() (*sealed.Keys, error) {
	if err := sealed.Make(s.path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	s.logger.Info("a key was made that seals the gateways' secrets in the store; keep a copy of the file apart from the backups", slog.String("file", s.path))
	return sealed.Read(s.path)
}

func (s *Secrets) warn() {
	if !s.keys.Seals() {
		s.logger.Warn("the secrets of gateways lie in the clear in the store and in its backups", slog.String("next_step", next.SealSecrets))
	}
	if s.keys.Exposed() {
		s.logger.Warn("others than its owner may read the file that opens the gateways' secrets", slog.String("file", s.keys.Path()), slog.String("next_step", fmt.Sprintf(next.ShutSecretKey, s.keys.Path())))
	}
}

// Reseal seals anew what is in the clear, or by another key than the first. Only
// the node that works calls it.
func (s *Secrets) Reseal(ctx context.Context) error {
	n, err := s.Gateways.Rewrite(ctx)
	if n > 0 {
		s.logger.Info("the secrets of gateways were encrypted again with the current key", slog.Int("gateways", n))
	}
	if err != nil {
		return cmp.Or(s.Check(ctx), err) // which key is missing, if one is
	}
	return nil
}

// Sign vouches for an archive with the first key.
func (s *Secrets) Sign(sum []byte) backup.Signature { return sign(s.keys, sum) }
