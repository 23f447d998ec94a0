package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// prefix begins every sealed text: prefix, id of the key, colon, and nonce and
// ciphertext in base64.
const prefix = "sealed:v1:"

// MissingError: a secret is sealed by a key that the file does not hold.
type MissingError struct{ KeyID string }

func (e *MissingError) Error() string { return "it is sealed with the key " + e.KeyID }

// ErrTampered: a sealed text is not what was written, or stands elsewhere.
var ErrTampered = errors.New("the sealed text was changed, or belongs to another place")

// errPrefix keeps a text in the clear from being taken for a sealed one.
var errPrefix = errors.New(`a secret must not begin with "` + prefix + `"`)

// seal encrypts a text for one place, which only opens there. Empty stays empty:
// that there is no secret is no secret.
func (k *Keys) seal(text, place string) (string, error) {
	switch {
	case text == "":
		return "", nil
	case !k.Seals():
		if strings.HasPrefix(text, prefix) {
			return "", errPrefix
		}
		return text, nil
	}
	by := &k.keys[0]
	c, err := by.cipher()
	if err != nil {
		return "", err
	}
	box := c.Seal(nil, nil, []byte(text), []byte(place))
	return prefix + by.id + ":" + base64.RawStdEncoding.EncodeToString(box), nil
}

// unseal opens what seal made; another text is in the clear, of before.
func (k *Keys) unseal(text, place string) (string, error) {
	id, box, is := split(text)
	if !is {
		return text, nil
	}
	by := k.find(id)
	if by == nil {
		if k.lost[id] {
			return "", nil
		}
		return "", &MissingError{KeyID: id}
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(box)
	if err != nil {
		return "", ErrTampered
	}
	c, err := by.cipher()
	if err != nil {
		return "", err
	}
	plain, err := c.Open(nil, nil, raw, []byte(place))
	if err != nil {
		return "", ErrTampered
	}
	return string(plain), nil
}

// current says whether a stored text is as seal would write it now.
func (k *Keys) current(text string) bool {
	id, _, is := split(text)
	if !k.Seals() {
		return !is
	}
	return text == "" || is && id == k.keys[0].id
}

func split(text string) (id, box string, is bool) {
	rest, is := strings.CutPrefix(text, prefix)
	if !is {
		return "", "", false
	}
	id, box, is = strings.Cut(rest, ":")
	return id, box, is
}

func (k *key) cipher() (cipher.AEAD, error) {
	b, err := aes.NewCipher(k.seal[:])
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	c, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return c, nil
}

// Sign vouches for the checksum of an archive; an empty id: there is no key.
func (k *Keys) Sign(sum []byte) (id string, mac []byte) {
	if len(k.keys) == 0 {
		return "", nil
	}
	return k.keys[0].id, k.keys[0].mac(sum)
}

// Signed says whether one of the keys has signed a checksum. A key that the
// file does not hold is a MissingError.
func (k *Keys) Signed(id string, sum, mac []byte) error {
	by := k.find(id)
	switch {
	case by == nil:
		return &MissingError{KeyID: id}
	case !hmac.Equal(mac, by.mac(sum)):
		return ErrTampered
	}
	return nil
}

func (k *key) mac(sum []byte) []byte {
	m := hmac.New(sha256.New, k.sign[:])
	m.Write([]byte("dash archive\x00"))
	m.Write(sum)
	return m.Sum(nil)
}
