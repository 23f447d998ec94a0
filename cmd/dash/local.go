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

	"github.com/dash-fleet/dash/messages"
)

// localNode is what a node leaves behind for clients of the same user on the
// same machine, so that `dash task list` works beside `dash serve --dev`
// without copying a key. It holds no secret: the key's own file has mode 0600.
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
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return nothing, err
	}
	return func() error { return os.Remove(path) }, nil
}

// localKey finds the key of a node of this user on this machine, or says why
// there is none.
func localKey(t *terminal, u *url.URL) (key messages.Secret, why string) {
	const unset = "DASH_API_KEY is not set"
	if !loopback(u.Hostname()) {
		return "", unset
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	none := fmt.Sprintf("%s, and no node of this user on this machine listens on port %s", unset, port)
	path := localPath(t, port)
	if path == "" {
		return "", none
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", none
	}
	var n localNode
	if err := json.Unmarshal(raw, &n); err != nil {
		return "", fmt.Sprintf("%s, and %s is damaged", unset, path)
	}
	text, err := os.ReadFile(n.KeyFile)
	if errors.Is(err, os.ErrNotExist) {
		return "", unset + ", and the node on port " + port + " has no key file: its store had keys before, from another node or a backup"
	}
	if err != nil {
		return "", fmt.Sprintf("%s, and the node's key file cannot be read: %v", unset, err)
	}
	return messages.Secret(strings.TrimSpace(string(text))), ""
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
