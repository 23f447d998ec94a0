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

// freePort finds a port that nobody listens on, below those that the operating
// system gives to clients: it must still be free after a restart. The claim
// keeps it from other processes that choose one, until it is closed.
func freePort() (port int, claim io.Closer, err error) {
	for range 100 {
		port = 15000 + rand.IntN(15000)
		if claim, err = claimPort(port); err != nil {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, claim, l.Close()
		}
		err = errors.Join(err, claim.Close())
	}
	return 0, nil, fmt.Errorf("find a free port: %w", err)
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
