package auth

import (
	"net/http"
	"strings"
	"testing"
)

// FuzzKeyText: a text is a key's only as NewKey writes it, and its id is the part
// that may be logged: never a byte of the secret.
func FuzzKeyText(f *testing.F) {
	for _, s := range []string{
		"", "dash_", "dash_mfzwizltoq2d_" + strings.Repeat("x", keySecretLen), "dash_MFZWIZLTOQ2D_" + strings.Repeat("x", keySecretLen),
		"dash_mfzwizltoq2d_" + strings.Repeat("é", keySecretLen), "dash_mfzwizltoq2d-" + strings.Repeat("x", keySecretLen), "dash_mfzwizltoq2d_" + strings.Repeat("x", keySecretLen+1),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := parseKey(s)
		if !ok {
			if id != "" {
				t.Errorf("%q is no key, and has the id %q", s, id)
			}
			return
		}
		if len(s) != keyTextLen || !strings.HasPrefix(s, keyPrefix+id+"_") || len(id) != keyIDLen {
			t.Errorf("%q is taken for a key with the id %q", s, id)
		}
		for _, c := range []byte(s) {
			if c <= ' ' || c > '~' {
				t.Errorf("%q holds a byte that no key has", s)
			}
		}
	})
}

// FuzzToken: the credential of a header is one piece of it, as it was written.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "Bearer x", "bearer x", "Bearer  x", "Basic eA==", "Bearer", "Bearer x y", "Bearer \tx"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token, err := Token(http.Header{"Authorization": {s}})
		switch {
		case err != nil && token != "":
			t.Errorf("%q is refused, and gives %q", s, token)
		case err == nil && (token == "" || token != strings.TrimSpace(token) || !strings.HasSuffix(s, token)):
			t.Errorf("%q gives %q", s, token)
		}
	})
}
