package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence/sealed"
)

// SecretsError refuses a node that cannot open what its store holds.
type SecretsError struct {
	File, KeyID string
	Err         error
}

func (e *SecretsError) Error() string {
	if e.KeyID == "" {
		return e.Err.Error()
	}
	if e.File == "" {
		return e.Err.Error() + ", and this node was given no key file"
	}
	return e.Err.Error() + ", which " + e.File + " does not hold"
}

// NextStep says what an operator can do.
func (e *SecretsError) NextStep() string {
	switch {
	case e.KeyID == "":
		return next.RemoveTamperedGateway
	case e.File == "":
		return fmt.Sprintf(next.NameSecretKey, e.KeyID)
	}
	return fmt.Sprintf(next.BringSecretKey, e.File, e.KeyID)
}

func (e *SecretsError) Unwrap() error { return e.Err }

// openSecrets puts the keys of this node between the store and the rest, and
// proves that every row opens: a wrong key is found at the start and not when
// this node takes over. What is sealed later is looked at while it stands by.
func (a *App) openSecrets(ctx context.Context) error {
	keys, missing, err := secretKeys(a.cfg)
	if err != nil {
		return err
	}
	repo := sealed.Gateways(a.repos.Gateways, keys)
	if err := a.opens(ctx, repo); err != nil {
		return err
	}
	if missing { // and nothing is sealed: this is the store's first start with keys
		if keys, err = a.firstSecretKey(); err != nil {
			return err
		}
		repo = sealed.Gateways(a.repos.Gateways, keys)
	}
	a.secrets, a.signer = repo, keys
	a.repos.Gateways = repo
	a.warnOfSecrets(keys)
	return nil
}

// secretKeys reads the keys that are configured: none without a file, or where
// the default one is missing.
func secretKeys(cfg config.Config) (keys *sealed.Keys, missing bool, err error) {
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

// opens says which key is missing, if one is.
func (a *App) opens(ctx context.Context, repo *sealed.Repository) error {
	err := repo.Check(ctx)
	var wrong *sealed.GatewayError
	if !errors.As(err, &wrong) {
		return err
	}
	e := &SecretsError{File: a.cfg.SecretKeyPath(), Err: wrong}
	var unknown *sealed.MissingError
	if errors.As(err, &unknown) {
		e.KeyID = unknown.KeyID
	}
	return e
}

func (a *App) firstSecretKey() (*sealed.Keys, error) {
	path := a.cfg.SecretKeyPath()
	if err := sealed.Make(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	a.logger.Info("a key was made that seals the gateways' secrets in the store; keep a copy of the file apart from the backups", slog.String("file", path))
	return sealed.Read(path)
}

func (a *App) warnOfSecrets(keys *sealed.Keys) {
	if !keys.Seals() {
		a.logger.Warn("the secrets of gateways lie in the clear in the store and in its backups", slog.String("next_step", next.SealSecrets))
	}
	if keys.Exposed() {
		a.logger.Warn("others than its owner may read the file that opens the gateways' secrets", slog.String("file", keys.Path()), slog.String("next_step", fmt.Sprintf(next.ShutSecretKey, keys.Path())))
	}
}

// reseal seals anew what is in the clear, or by another key than the first. Only
// the node that works calls it.
func (a *App) reseal(ctx context.Context) error {
	n, err := a.secrets.Rewrite(ctx)
	if n > 0 {
		a.logger.Info("the secrets of gateways were written anew with the present key", slog.Int("gateways", n))
	}
	if err != nil {
		return cmp.Or(a.opens(ctx, a.secrets), err) // which key is missing, if one is
	}
	return nil
}
