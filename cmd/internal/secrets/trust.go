package secrets

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence/backup"
	"github.com/dash-fleet/dash/persistence/sealed"
)

// UntrustedError: nobody with one of this node's secret keys has made the archive.
type UntrustedError struct{ Why, File string }

func (e *UntrustedError) Error() string { return e.Why }

// NextStep says what an operator can do.
func (e *UntrustedError) NextStep() string {
	if e.File == "" {
		return next.NameKeyOrAcceptUnsigned
	}
	return fmt.Sprintf(next.BringKeyOrAcceptUnsigned, e.File)
}

// Signer vouches for archives with the configured key.
func Signer(cfg config.Config) (func(sum []byte) backup.Signature, error) {
	keys, _, err := read(cfg)
	if err != nil {
		return nil, err
	}
	return func(sum []byte) backup.Signature { return sign(keys, sum) }, nil
}

func sign(keys *sealed.Keys, sum []byte) (s backup.Signature) {
	s.Key, s.MAC = keys.Sign(sum)
	return s
}

// Verifier refuses archives that none of the configured keys has signed.
func Verifier(cfg config.Config) (func(*backup.Manifest) error, error) {
	keys, _, err := read(cfg)
	if err != nil {
		return nil, err
	}
	return func(m *backup.Manifest) error {
		if m.Signed.Key == "" {
			return &UntrustedError{"the archive is not signed, so anyone may have written the API keys in it", cfg.SecretKeyPath()}
		}
		sum, err := hex.DecodeString(m.SHA256)
		if err != nil {
			return err
		}
		var unknown *sealed.MissingError
		err = keys.Signed(m.Signed.Key, sum, m.Signed.MAC)
		switch {
		case errors.As(err, &unknown):
			return &UntrustedError{"the archive is signed with the key " + unknown.KeyID + ", which is not here", cfg.SecretKeyPath()}
		case err != nil:
			return &UntrustedError{"the signature of the archive is forged", cfg.SecretKeyPath()}
		}
		return nil
	}, nil
}
