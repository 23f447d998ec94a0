package launcher

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	older     = ".1"
	trimEvery = time.Minute
	tailLines = 20
	tailWidth = 512
	tailBytes = 64 << 10
)

// openOutput moves the last start's output aside and opens a new file for the
// next. The daemon appends, so the file can be cut while it runs.
func openOutput(dir folder, limit int64) (*os.File, error) {
	if info, err := os.Stat(dir.output()); err == nil && info.Size() > limit {
		if err := trim(dir.output(), limit); err != nil {
			return nil, fmt.Errorf("keep the last output: %w", err)
		}
	} else if err := os.Rename(dir.output(), dir.output()+older); err != nil && !isMissing(err) {
		return nil, fmt.Errorf("keep the last output: %w", err)
	}
	f, err := os.OpenFile(dir.output(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the output file: %w", err)
	}
	return f, nil
}

// trimLogs keeps the log files of all gateways within their bound.
func (l *Launcher) trimLogs() {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
			l.trimOnce()
		}
	}
}

func (l *Launcher) trimOnce() {
	l.mu.Lock()
	var dirs []folder
	for _, g := range l.gateways {
		g.mu.Lock()
		if g.lock != nil {
			dirs = append(dirs, g.dir)
		}
		g.mu.Unlock()
	}
	l.mu.Unlock()
	for _, dir := range dirs {
		for _, path := range []string{dir.output(), dir.ownLog()} {
			if err := trim(path, l.cfg.LogLimit); err != nil {
				l.log.Warn("log file of a gateway could not be cut", "path", path, "err", err)
			}
		}
	}
}

// trim moves the last limit bytes of a file that outgrew limit to its older
// file and empties it. Lines written in between are lost: the daemon holds the
// file open, so it cannot be renamed.
func trim(path string, limit int64) error {
	info, err := os.Stat(path)
	if isMissing(err) || (err == nil && info.Size() <= limit) {
		return nil
	}
	if err != nil {
		return err
	}
	src, err := os.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	if _, err := src.Seek(-limit, io.SeekEnd); err != nil {
		return err
	}
	dst, err := os.OpenFile(path+older, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(dst, src, limit)
	return errors.Join(err, dst.Close(), os.Truncate(path, 0))
}

// tail returns the last lines of the daemon's output, fit to be shown: without
// the given secrets.
func tail(dir folder, secrets ...string) []string {
	f, err := os.Open(dir.output())
	if err != nil {
		return nil
	}
	defer f.Close()
	cut := false
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		cut = true
		if _, err := f.Seek(-tailBytes, io.SeekEnd); err != nil {
			return nil
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, tailBytes))
	if err != nil {
		return nil
	}
	text := string(b)
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if cut { // the first line is a part, of the token perhaps
		lines = lines[1:]
	}
	lines = lines[max(0, len(lines)-tailLines):]
	out := make([]string, 0, len(lines))
	for _, line := range lines {
		if line = clip(line, tailWidth); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// clip makes text from a daemon safe to show: valid UTF-8, no control
// characters, at most n bytes.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
