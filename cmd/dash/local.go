package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/messages"
)

// localNode is what a node leaves behind for clients of the same user on the
// same machine, so that `dash task list` works beside `dash serve --dev`
// without copying a key. It holds no secret: the key's own file has mode 0600.
// The node keeps the file locked as long as it lives: of a killed one the lock
// is gone, and whoever listens on its port then gets no key.
type localNode struct {
	URL     string `json:"url"`
	KeyFile string `json:"key_file"`
	PID     int    `json:"pid"`
}

// localPath is the file of the node that listens on host:port, or "" when the
// user has no home.
func localPath(t *terminal, port string) string {
	dir := t.getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		home := t.getenv("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "dash", "node-"+port+".json")
}

// announce writes the file of a node that listens; the returned func removes it.
func announce(t *terminal, n localNode) (func() error, error) {
	nothing := func() error { return nil }
	u, err := url.Parse(n.URL)
	if err != nil {
		return nothing, err
	}
	path := localPath(t, u.Port())
	if path == "" {
		return nothing, nil
	}
	if n.KeyFile, err = filepath.Abs(n.KeyFile); err != nil {
		return nothing, err
	}
	raw, err := json.Marshal(n)
	if err != nil {
		return nothing, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nothing, err
	}
	// A file of its own, not the one that a killed node left, and in place when it
	// is whole and locked: clients may look at any time.
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nothing, err
	}
	f, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nothing, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		_, err = f.Write(raw)
	}
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return nothing, errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(fresh), f.Close())
	}
	return func() error { return errors.Join(os.Remove(path), f.Close()) }, nil
}

// readLocal reads the file of a node, and says whether that node lives.
func readLocal(path string) (n localNode, alive bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return n, false, err
	}
	defer f.Close()
	alive = errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	return n, alive, json.NewDecoder(f).Decode(&n)
}

// localKey finds the key of a node of this user on this machine and the address
// that this node serves, or says why there is none.
func localKey(t *terminal, u *url.URL) (key messages.Secret, at, why string) {
	const unset = "DASH_API_KEY is not set"
	if !loopback(u.Hostname()) {
		return "", "", unset
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	none := fmt.Sprintf("%s, and no node of this user on this machine listens on port %s", unset, port)
	path := localPath(t, port)
	if path == "" {
		return "", "", none
	}
	n, alive, err := readLocal(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", "", none
	case err != nil:
		return "", "", fmt.Sprintf("%s, and %s cannot be read: %v", unset, path, err)
	case !alive:
		return "", "", fmt.Sprintf("%s, and the node of this user that listened on port %s was killed: what listens there now gets no key", unset, port)
	}
	text, err := os.ReadFile(n.KeyFile)
	if errors.Is(err, os.ErrNotExist) {
		return "", "", unset + ", and the node on port " + port + " has no key file: its store had keys before, from another node or a backup"
	}
	if err != nil {
		return "", "", fmt.Sprintf("%s, and the node's key file cannot be read: %v", unset, err)
	}
	// Another user's process may listen on the same port of another loopback
	// address, to which "localhost" can lead as well.
	if its, err := url.Parse(n.URL); err == nil && its.Scheme == "http" && loopback(its.Hostname()) {
		at = n.URL
	}
	return messages.Secret(strings.TrimSpace(string(text))), at, ""
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
