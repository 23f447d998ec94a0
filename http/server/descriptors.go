//go:build unix

package server

import "syscall"

// descriptors is how many files and connections the process may have open.
func descriptors() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return uint64(l.Cur) //nolint:unconvert // signed on some systems
}
