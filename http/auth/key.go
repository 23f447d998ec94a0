package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/dash-fleet/dash/messages"
)

// DefaultCost is the bcrypt cost of stored keys; a check takes about 0.3 s.
const DefaultCost = 12

// The text of a key is "dash_<key id>_<secret>": 12 characters of public id
// and 43 of base64url (256 bits). It stays below bcrypt's 72 bytes, of which
// Go's bcrypt would silently ignore the rest.
const (
	keyPrefix    = "dash_"
	keyIDLen     = 12
	keySecretLen = 43
	keyTextLen   = len(keyPrefix) + keyIDLen + 1 + keySecretLen
)

// Key is an API key as stored.
type Key struct {
	ID          string
	Hash        []byte // bcrypt of the whole text: what decides
	Digest      []byte // SHA-256 of it, nil when it is not known yet
	Name        string
	Tenant      string // empty: all tenants
	Permissions []string
	RateLimit   int       // requests per minute; 0: no limit
	ExpiresAt   time.Time // zero: never
	Active      bool
	Version     int64 // grows with every change of the row
}

// ended says that the key lets nobody in any more.
func (k *Key) ended(now time.Time) bool {
	return !k.Active || (!k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt))
}

// KeyState is the part of a key's row that every request asks for.
type KeyState struct {
	Version int64
	Digest  []byte
	// Stale is when the store confirmed it for the last time; zero: just now.
	Stale time.Time
}

// KeyStore holds the keys. It is asked on every request.
type KeyStore interface {
	// State returns what is known of the key's row; it must be cheap (memory, or
	// one indexed read) and at most 0.9 s behind the last committed change of
	// any process, or say since when it is. CodeNotFound when there is no such key.
	State(ctx context.Context, id string) (KeyState, error)
	// Changed returns a channel that is closed when what State says may have
	// changed of any key.
	Changed() <-chan struct{}
	// Key returns the key. CodeNotFound.
	Key(ctx context.Context, id string) (Key, error)
	// Learn keeps the digest of a key that has none.
	Learn(ctx context.Context, id string, digest []byte) error
	// Touch records when keys were last used, in one write.
	Touch(ctx context.Context, used map[string]time.Time) error
}

// NewKey makes the text of a new key, shown once and never stored, with its
// public id and the hash to store.
func NewKey(cost int) (text messages.Secret, id string, hash []byte, err error) {
	return NewKeyOnce(cost, "")
}

// OnceID is the public id of the key that is made for a wish.
func OnceID(once string) string {
	b := sha256.Sum256([]byte("dash.key\n" + once))
	return keyID(b[:])
}

func keyID(b []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:8]))[:keyIDLen]
}

// NewKeyOnce makes a key whose public id follows from the wish for it, or with an
// empty one a key like any. The secret never does.
func NewKeyOnce(cost int, once string) (text messages.Secret, id string, hash []byte, err error) {
	var b [8 + 32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", "", nil, fmt.Errorf("make key: %w", err)
	}
	if id = keyID(b[:8]); once != "" {
		id = OnceID(once)
	}
	plain := keyPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(b[8:])
	hash, err = bcrypt.GenerateFromPassword([]byte(plain), cost)
	if err != nil {
		return "", "", nil, fmt.Errorf("hash key: %w", err)
	}
	return messages.Secret(plain), id, hash, nil
}

// Digest tells a wrong text of a key at no cost. A key is 256 random bits, so
// nobody finds it from its digest; a text with the right one still has to pass
// bcrypt.
func Digest(text messages.Secret) []byte {
	d := sha256.Sum256([]byte(text.Reveal()))
	return d[:]
}

// parseKey returns the public id inside a key's text; ok is false for a text
// that no key can have.
func parseKey(text string) (id string, ok bool) {
	if len(text) != keyTextLen || !strings.HasPrefix(text, keyPrefix) || text[len(keyPrefix)+keyIDLen] != '_' {
		return "", false
	}
	id = text[len(keyPrefix) : len(keyPrefix)+keyIDLen]
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", false
		}
	}
	for i := len(keyPrefix) + keyIDLen + 1; i < len(text); i++ {
		if c := text[i]; c <= ' ' || c > '~' {
			return "", false
		}
	}
	return id, true
}
