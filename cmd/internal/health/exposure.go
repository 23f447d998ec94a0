package health

import (
	"net"
	"os"
	"strings"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/server"
)

// exposed says in what way this node is open to others than its operator would
// expect; empty: in none.
func exposed(cfg config.Config, mode os.FileMode) (ways []string) {
	if mode.Perm()&0o002 != 0 {
		ways = append(ways, "every user of this machine may write to the data folder")
	}
	host, _, err := net.SplitHostPort(cfg.Listen)
	ip := net.ParseIP(host)
	local := host == "localhost" || ip != nil && ip.IsLoopback()
	if err == nil && !local && cfg.TLSCert == "" && !strings.HasPrefix(cfg.PublicURL, "https://") {
		ways = append(ways, "the API listens beyond this machine without TLS, so keys cross the network in the clear")
	}
	return ways
}

// Exposed says in what way a node with this configuration is open to others; empty: in none.
func Exposed(cfg config.Config) []string {
	var mode os.FileMode
	if info, err := os.Stat(cfg.Data); err == nil {
		mode = info.Mode()
	}
	return exposed(cfg, mode)
}

// Exposure never fails: the node does its work.
func Exposure(cfg config.Config) server.Check {
	c := server.Check{Name: "exposure", OK: true, Detail: "the data folder and the listener are the operator's"}
	if ways := Exposed(cfg); len(ways) > 0 {
		c.Detail = "warning: " + strings.Join(ways, "; ")
	}
	return c
}
