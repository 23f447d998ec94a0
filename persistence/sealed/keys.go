package sealed

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dash-fleet/dash/messages/next"
)

// Words of a key file beside keys.
const (
	wordClear = "clear" // first: rows are written in the clear
	wordLost  = "lost"  // lost ID: what that key has sealed counts as empty
)

const (
	keySize     = 32
	maxKeyFile  = 64 << 10
	maxKeys     = 64
	idSize      = 4 // bytes of a key's id, which only finds it
	fileComment = "# Seals the secrets of gateways in Dash's store. Keep a copy apart from the backups.\n"
)

// key is one line of the file.
type key struct {
	id   string
	seal [keySize]byte // AES-256-GCM of secrets
	sign [keySize]byte // HMAC of archives
}

// Keys are the keys of a file: the first seals, all of them open. The zero
// value seals nothing and opens what is in the clear.
type Keys struct {
	path string
	keys []key
	// clear: rows are written in the clear, though keys may open old ones.
	clear bool
	lost  map[string]bool
	open  bool // others than the owner may read the file
}

// Path is the file of the keys, empty for none.
func (k *Keys) Path() string { return k.path }

// Seals says whether secrets are written sealed.
func (k *Keys) Seals() bool { return !k.clear && len(k.keys) > 0 }

// Exposed says that others than its owner may read the file.
func (k *Keys) Exposed() bool { return k.open }

// FileError is a key file that cannot be used.
type FileError struct {
	Path, Why, Next string
	Err             error
}

func (e *FileError) Error() string { return "secret key file " + e.Path + ": " + e.Why }

// NextStep says what an operator can do.
func (e *FileError) NextStep() string { return e.Next }

func (e *FileError) Unwrap() error { return e.Err }

// Read reads a key file. A missing one is an error that is fs.ErrNotExist.
func Read(path string) (*Keys, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, &FileError{Path: path, Why: "it cannot be read: " + cause(err), Next: fmt.Sprintf(next.MakeSecretKey, path), Err: err}
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return nil, &FileError{Path: path, Why: "it is no file, or larger than 64 KiB", Next: fmt.Sprintf(next.MakeSecretKey, path)}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, &FileError{Path: path, Why: "it cannot be read: " + cause(err), Next: next.LetReadSecretKey, Err: err}
	}
	k, err := Parse(raw)
	if err != nil {
		return nil, &FileError{Path: path, Why: err.Error(), Next: next.CorrectSecretKey, Err: err}
	}
	k.path, k.open = path, info.Mode().Perm()&0o077 != 0
	return k, nil
}

// Parse reads the text of a key file: a line holds a key of 32 bytes in
// base64, or clear, or lost and the id of a key; # begins a comment. Errors
// name the line and never its text.
func Parse(raw []byte) (*Keys, error) {
	k := &Keys{lost: map[string]bool{}}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, maxKeyFile+1)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		var err error
		switch {
		case len(words) == 0:
		case words[0] == wordClear && len(words) == 1:
			if len(k.keys) > 0 || k.clear {
				err = errors.New("clear is the first word of the file, or not there")
			}
			k.clear = true
		case words[0] == wordLost && len(words) == 2:
			k.lost[words[1]] = true
		case len(words) == 1:
			err = k.add(words[0])
		default:
			err = errors.New("it is neither a key, nor clear, nor lost and the id of a key")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, errors.New("a line is too long")
	}
	if len(k.keys) == 0 && !k.clear {
		return nil, errors.New("it holds no key")
	}
	return k, nil
}

func (k *Keys) add(text string) error {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != keySize {
		return errors.New("it is not a key of 32 bytes in base64")
	}
	if len(k.keys) == maxKeys {
		return fmt.Errorf("there are more than %d keys", maxKeys)
	}
	made, err := derive(raw)
	if err != nil {
		return err
	}
	for i := range k.keys {
		if k.keys[i].id == made.id {
			return errors.New("the key is there twice")
		}
	}
	k.keys = append(k.keys, made)
	return nil
}

// derive makes keys for one purpose each, and the id, of which none tells of another.
func derive(raw []byte) (made key, err error) {
	for info, to := range map[string][]byte{"dash seal": made.seal[:], "dash sign": made.sign[:]} {
		b, err := hkdf.Key(sha256.New, raw, nil, info, keySize)
		if err != nil {
			return made, fmt.Errorf("derive a key: %w", err)
		}
		copy(to, b)
	}
	id, err := hkdf.Key(sha256.New, raw, nil, "dash key id", idSize)
	if err != nil {
		return made, fmt.Errorf("derive a key: %w", err)
	}
	made.id = hex.EncodeToString(id)
	return made, nil
}

func (k *Keys) find(id string) *key {
	for i := range k.keys {
		if k.keys[i].id == id {
			return &k.keys[i]
		}
	}
	return nil
}

// Make makes a file with one new key, mode 0600, whole or not at all. A file
// that is there already is left alone: the error is fs.ErrExist.
func Make(path string) (err error) {
	var raw [keySize]byte
	if _, err := io.ReadFull(rand.Reader, raw[:]); err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("make the secret key file: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.WriteString(fileComment + base64.StdEncoding.EncodeToString(raw[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make the secret key file: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil {
		return fmt.Errorf("make the secret key file: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("make the secret key file: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// cause drops the operation and path that os errors repeat.
func cause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
