//go:build !linux

package chaos

import (
	"context"
	"errors"
)

func diskFull(context.Context, *Env) error {
	return errors.New("infrastructure missing: a small tmpfs needs Linux")
}

func sqliteFsyncFails(context.Context, *Env) error { return errNoStrace }
func sqliteFsyncSlow(context.Context, *Env) error  { return errNoStrace }

func (*Env) breakDisk(context.Context, int) (func() error, error) { return nil, errNoStrace }

var errNoStrace = errors.New("infrastructure missing: an fsync that fails needs strace, which needs Linux")
