package openclawtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Events of the ground-truth log.
const (
	LogAccepted = "accepted"
	LogStarted  = "started"
	LogFinished = "finished"
	LogFailed   = "failed"
	LogAborted  = "aborted"
	// LogGaveUp names a session whose interrupted turn the gateway will not run
	// again by itself, after three crashes; it has no run id.
	LogGaveUp = "gave_up"
)

// Line is one happening of the ground-truth log.
type Line struct {
	Time    time.Time `json:"time"`
	Gateway string    `json:"gateway"`
	Boot    string    `json:"boot"`
	RunID   string    `json:"run_id"`
	Session string    `json:"session"`
	Event   string    `json:"event"`
	Message string    `json:"message"`
}

// Log is the ground truth that judges read: JSON lines, each written with one
// unbuffered write before the happening can be seen from outside. One Log may
// be shared by many gateways; lines are in order of time. Safe for concurrent use.
type Log struct {
	mu     sync.Mutex
	w      io.Writer
	closer io.Closer
	err    error
	failed chan struct{}
}

// NewLog writes lines to w, which must take one line per Write.
func NewLog(w io.Writer) *Log { return &Log{w: w, failed: make(chan struct{})} }

// OpenLog appends to the file at path, creating it when missing.
func OpenLog(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open ground-truth log: %w", err)
	}
	l := NewLog(f)
	l.closer = f
	return l, nil
}

// Failed is closed when a line could not be written; Err says why. From then on
// the log is not the truth and whoever relies on it must stop.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Err is the first write error, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close closes the file of OpenLog. Closing twice is harmless.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closer == nil {
		return nil
	}
	c := l.closer
	l.closer = nil
	return c.Close()
}

func (l *Log) write(line Line) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	line.Time = time.Now().UTC()
	data, err := json.Marshal(line)
	if err == nil {
		_, err = l.w.Write(append(data, '\n'))
	}
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("write ground-truth log: %w", err)
		close(l.failed)
	}
}

// ReadLog parses lines written by a Log. A torn last line, as kill -9 or a full
// disk leaves it, is ignored; any other bad line is an error.
func ReadLog(r io.Reader) ([]Line, error) {
	var lines []Line
	br := bufio.NewReader(r)
	for n := 1; ; n++ {
		data, err := br.ReadBytes('\n')
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return lines, fmt.Errorf("read ground-truth log: %w", err)
		}
		var line Line
		if err := json.Unmarshal(data, &line); err != nil {
			return lines, fmt.Errorf("ground-truth log line %d: %w", n, err)
		}
		lines = append(lines, line)
	}
}
