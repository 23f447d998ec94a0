package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
)

// Recipient is who can read an encrypted archive; Identity opens one.
type (
	Recipient = age.Recipient
	Identity  = age.Identity
)

// maxKeyFile bounds files with identities, recipients or a passphrase.
const maxKeyFile = 1 << 20

// ParseRecipients reads public keys as age-keygen prints them (age1…).
func ParseRecipients(keys []string) ([]age.Recipient, error) {
	var out []age.Recipient
	for _, k := range keys {
		list, err := age.ParseRecipients(strings.NewReader(strings.TrimSpace(k)))
		if err != nil {
			if strings.Contains(strings.ToUpper(k), "AGE-SECRET-KEY") { // which must not be repeated
				return nil, errors.New("an identity, which is secret, is not a public key of age: give what `age-keygen -y` prints for it, age1…")
			}
			return nil, fmt.Errorf("%q is not a public key of age: give what `age-keygen -y` prints, age1…", k)
		}
		out = append(out, list...)
	}
	return out, nil
}

// ReadIdentities reads a file as age-keygen writes it (AGE-SECRET-KEY-1…).
func ReadIdentities(path string) ([]age.Identity, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	ids, err := age.ParseIdentities(bytes.NewReader(b))
	if err != nil {
		// The parser's own words may repeat a part of the file, which is secret.
		return nil, fmt.Errorf("%s does not hold identities as age-keygen writes them", path)
	}
	return ids, nil
}

// ReadPassphrase reads the first line of a file. It costs about a second and
// 256 MiB to try one passphrase; the memory is freed afterwards.
func ReadPassphrase(path string) (*age.ScryptRecipient, *age.ScryptIdentity, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, nil, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return nil, nil, fmt.Errorf("%s has no passphrase in its first line", path)
	}
	to, err := age.NewScryptRecipient(line)
	if err != nil {
		return nil, nil, fmt.Errorf("passphrase in %s: %w", path, err)
	}
	id, err := age.NewScryptIdentity(line)
	if err != nil {
		return nil, nil, fmt.Errorf("passphrase in %s: %w", path, err)
	}
	return to, id, nil
}

func readSmall(path string) (b []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err = io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("%s has more than %d bytes, which is no key", path, maxKeyFile)
	}
	return b, err
}
