package testserver

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
)

// FreePorts finds n neighbouring ports that nobody listens on, below those that
// the operating system gives to clients: they must still be free after a
// restart. The claim keeps them from other processes that choose some in this
// way, until it is closed.
func FreePorts(n int) (base int, claim io.Closer, err error) {
	const first, last = 15000, 30000
	for range 200 {
		base = first + rand.IntN(last-first-n)
		if claim, err = claimPorts(base, n); err == nil {
			return base, claim, nil
		}
	}
	return 0, nil, fmt.Errorf("infrastructure missing: no %d free neighbouring ports between %d and %d: %w", n, first, last, err)
}

// claims are closed together.
type claims []io.Closer

func (c claims) Close() error {
	var err error
	for _, one := range c {
		err = errors.Join(err, one.Close())
	}
	return err
}

func claimPorts(base, n int) (io.Closer, error) {
	var all claims
	for port := base; port < base+n; port++ {
		one, err := claimPort(port)
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		all = append(all, one)
		l, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		if err := l.Close(); err != nil {
			return nil, errors.Join(err, all.Close())
		}
	}
	return all, nil
}

// claimPort takes a name that one process of the machine can have at a time and
// that the kernel frees with it. Only Linux has such names; elsewhere ports are
// kept apart by chance alone.
func claimPort(port int) (io.Closer, error) {
	if runtime.GOOS != "linux" {
		return io.NopCloser(nil), nil
	}
	return net.Listen("unix", "@dash-testserver-"+strconv.Itoa(port))
}
