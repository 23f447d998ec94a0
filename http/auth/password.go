package auth

import (
	"fmt"

	"golang.org/x/crypto/bcrypt"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Bounds of a password in bytes. Go's bcrypt looks at no more than the first 72.
const (
	MinPassword = 12
	MaxPassword = 72
)

// HashPassword returns the bcrypt hash to store. A password of a length that
// it cannot take is CodeInvalid.
func HashPassword(password messages.Secret, cost int) ([]byte, error) {
	p := password.Reveal()
	if len(p) < MinPassword || len(p) > MaxPassword {
		why := fmt.Sprintf("must have %d to %d bytes, and has %d", MinPassword, MaxPassword, len(p))
		return nil, &messages.Error{
			Code: messages.CodeInvalid, Message: "the password " + why, NextStep: next.OtherPassword,
			Fields: []messages.FieldError{{Pointer: "/password", Detail: why}},
		}
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(p), cost)
	if err != nil {
		return nil, fmt.Errorf("hash password: %w", err)
	}
	return hash, nil
}
