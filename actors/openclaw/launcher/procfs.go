package launcher

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// stat is what the launcher needs of /proc/<pid>/stat.
type stat struct {
	state    byte
	ppid     int
	session  int
	start    uint64 // clock ticks after boot
	exitCode int    // wait status; only of a zombie
}

func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// parseStat reads a line of proc_pid_stat(5). The program's name may hold
// spaces and parentheses, so fields are counted after the last ")".
func parseStat(b []byte) (stat, error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return stat{}, errors.New("stat line without a program name")
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 50 || len(f[0]) != 1 { // fields 3 to 52
		return stat{}, errors.New("stat line is too short")
	}
	var s stat
	var errs [4]error
	s.state = f[0][0]
	s.ppid, errs[0] = strconv.Atoi(f[1])
	s.session, errs[1] = strconv.Atoi(f[3])
	s.start, errs[2] = strconv.ParseUint(f[19], 10, 64)
	s.exitCode, errs[3] = strconv.Atoi(f[49])
	if err := errors.Join(errs[:]...); err != nil {
		return stat{}, fmt.Errorf("stat line: %w", err)
	}
	return s, nil
}

func procPath(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}

// hostBootID identifies the running kernel: pids and start times of another
// boot mean nothing.
func hostBootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the host's boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// environ returns the value of key in the environment pid was started with.
// Only processes of the same user can be read; of others nothing is known.
func environ(pid int, key string) string {
	b, err := os.ReadFile(procPath(pid, "environ"))
	if err != nil {
		return ""
	}
	for kv := range bytes.SplitSeq(b, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(key+"=")); ok {
			return string(v)
		}
	}
	return ""
}

// processesWith returns the living processes started with key=value.
func processesWith(key, value string) []int {
	if value == "" {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || environ(pid, key) != value {
			continue
		}
		if st, err := readStat(pid); err == nil && !st.dead() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// rootOf returns the process of pids that was started by none of the others
// and leads its session: what Dash started, not what that process started.
func rootOf(pids []int) int {
	in := map[int]bool{}
	for _, pid := range pids {
		in[pid] = true
	}
	root, first := 0, uint64(0)
	for _, pid := range pids {
		st, err := readStat(pid)
		if err != nil || st.dead() || st.session != pid || in[st.ppid] {
			continue
		}
		if root == 0 || st.start < first {
			root, first = pid, st.start
		}
	}
	return root
}

// listeners returns the socket inodes that listen on a local TCP port.
func listeners(port int) (map[string]bool, error) {
	inodes := map[string]bool{}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6 on this host
		}
		if err != nil {
			return nil, err
		}
		addListeners(inodes, bufio.NewScanner(f), port)
		f.Close()
	}
	return inodes, nil
}

// portsOf returns the TCP ports that pid listens on.
func portsOf(pid int) []int {
	var ports []int
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !holds(pid, map[string]bool{f[9]: true}) {
				continue
			}
			_, hex, _ := strings.Cut(f[1], ":")
			if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
				ports = append(ports, int(port))
			}
		}
	}
	return ports
}

func addListeners(inodes map[string]bool, lines *bufio.Scanner, port int) {
	const listen = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) > 9 && f[3] == listen && strings.HasSuffix(f[1], suffix) {
			inodes[f[9]] = true
		}
	}
}

// holds reports whether pid has one of the sockets open.
func holds(pid int, inodes map[string]bool) bool {
	dir := procPath(pid, "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok && inodes[strings.TrimSuffix(inode, "]")] {
			return true
		}
	}
	return false
}

// portUse says who listens on a port.
type portUse int

const (
	portFree portUse = iota
	portOurs
	portForeign
)

// portOwner tells whether port is listened on by pid, or by a process of the
// same launch (then that process is returned: the daemon of a wrapper).
func portOwner(port, pid int, launchID string) (portUse, int, error) {
	inodes, err := listeners(port)
	if err != nil {
		return portForeign, 0, fmt.Errorf("read who listens on port %d: %w", port, err)
	}
	if len(inodes) == 0 {
		return portFree, 0, nil
	}
	if pid > 0 && holds(pid, inodes) {
		return portOurs, pid, nil
	}
	if owner := holder(processesWith(envLaunchID, launchID), inodes); owner > 0 {
		return portOurs, owner, nil
	}
	return portForeign, 0, nil
}

func holder(pids []int, inodes map[string]bool) int {
	for _, pid := range pids {
		if holds(pid, inodes) {
			return pid
		}
	}
	return 0
}

// ownerOf returns the process started with key=value that listens on port, or 0.
func ownerOf(key, value string, port int) int {
	if port == 0 {
		return 0
	}
	inodes, err := listeners(port)
	if err != nil || len(inodes) == 0 {
		return 0
	}
	return holder(processesWith(key, value), inodes)
}
