package launcher

import (
	"math/rand/v2"
	"net"
	"strconv"

	"github.com/dash-fleet/dash/messages/next"
)

// portRange is where ports are chosen from, last excluded.
type portRange struct{ first, last int }

// The default range lies below the ports that outgoing connections get.
const (
	firstPort = 20000
	lastPort  = 32000
)

// portStep keeps the ports apart that a gateway derives from its own
// (port+2, port+11..110).
const portStep = 128

// choosePort returns a port nobody listens on: the wanted one, else the one of
// the last start, else any. Between this look and the daemon's bind the port
// can still be taken; start tries again then.
func (l *Launcher) choosePort(id string, wanted, kept int) (int, error) {
	taken := l.portsOfOthers(id)
	if wanted != 0 {
		if !taken[wanted] && canListen(wanted) {
			return wanted, nil
		}
		return 0, retryable(nil, next.FreePort, "the gateway's port %d is taken", wanted)
	}
	if kept != 0 && !taken[kept] && canListen(kept) {
		return kept, nil
	}
	steps := (l.ports.last - l.ports.first) / portStep
	start := rand.IntN(steps)
	for i := range steps {
		if port := l.ports.first + (start+i)%steps*portStep; !taken[port] && canListen(port) {
			return port, nil
		}
	}
	for range 256 { // more gateways than steps: they may not use plugins that derive ports
		if port := l.ports.first + rand.IntN(l.ports.last-l.ports.first); !taken[port] && canListen(port) {
			return port, nil
		}
	}
	return 0, retryable(nil, next.FreePorts, "no free port from %d to %d was found", l.ports.first, l.ports.last)
}

// portsOfOthers returns the ports of this node's other managed gateways, also
// of those that do not run now.
func (l *Launcher) portsOfOthers(id string) map[int]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ports := map[int]bool{}
	for other, g := range l.gateways {
		if other == id {
			continue
		}
		g.mu.Lock()
		ports[g.rec.Port] = true
		g.mu.Unlock()
	}
	return ports
}

func canListen(port int) bool {
	ln, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	ln.Close()
	return true
}
