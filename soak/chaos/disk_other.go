//go:build !linux

package chaos

import (
	"context"
	"errors"
)

func fullDisk(context.Context, *Env) error {
	return errors.New("infrastructure missing: a small tmpfs needs Linux")
}
