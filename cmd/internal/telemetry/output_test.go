package telemetry_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/dash-fleet/dash/cmd/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stalled is a reader that takes nothing until it is freed.
type stalled struct {
	free chan struct{}

	mu  sync.Mutex
	got bytes.Buffer
}

func (s *stalled) Write(p []byte) (int, error) {
	<-s.free
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

func (s *stalled) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

// TestLogNeverWaits: 2.5 MB of lines for a reader that hangs are taken at once.
// What did not fit is counted, and said as soon as somebody reads again; what
// was kept is whole and in order.
func TestLogNeverWaits(t *testing.T) {
	t.Parallel()
	r := &stalled{free: make(chan struct{})}
	l, err := telemetry.NewLog(r, telemetry.LogOptions{Format: "text"})
	if err != nil {
		t.Fatal(err)
	}
	const lines = 2500
	text := strings.Repeat("x", 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range lines {
			l.Info(fmt.Sprintf("line-%d", i), "text", text)
		}
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute): // it would be for ever; a busy machine needs some seconds
		close(r.free)
		t.Fatal("logging waits for the reader")
	}
	began := time.Now()
	l.Close(50 * time.Millisecond)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Close took %s beside a reader that hangs", took)
	}
	dropped := int(l.Dropped())
	if dropped < lines/3 || dropped >= lines {
		t.Errorf("dropped %d of %d lines of 1 kB, want all beyond about 1 MiB", dropped, lines)
	}
	if n := testutil.ToFloat64(l.Collector()); int(n) != dropped {
		t.Errorf("dash_log_dropped_total is %v, want %d", n, dropped)
	}
	close(r.free)
	l.Close(time.Minute)
	got := strings.Split(strings.TrimSuffix(r.String(), "\n"), "\n")
	last := got[len(got)-1]
	if !strings.Contains(last, fmt.Sprintf("lines=%d", dropped)) {
		t.Errorf("the last line does not say that %d are missing: %s", dropped, last)
	}
	if kept := len(got) - 1; kept != lines-dropped {
		t.Errorf("%d lines arrived and %d were dropped, of %d", kept, dropped, lines)
	}
	for i, line := range got[:len(got)-1] {
		if !strings.Contains(line, fmt.Sprintf("line-%d ", i)) || !strings.HasSuffix(line, text) {
			t.Fatalf("line %d is %.60s…", i, line)
		}
	}
}

// TestLogGoesOnAfterAStall: lines of after a stall arrive.
func TestLogGoesOnAfterAStall(t *testing.T) {
	t.Parallel()
	r := &stalled{free: make(chan struct{})}
	l, err := telemetry.NewLog(r, telemetry.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		l.Info("early", "text", strings.Repeat("x", 1000))
	}
	close(r.free)
	for deadline := time.Now().Add(time.Minute); !strings.Contains(r.String(), "lines are missing here"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody said that lines are missing")
		}
	}
	before := l.Dropped()
	l.Info("late")
	l.Close(time.Minute)
	if !strings.Contains(r.String(), `"msg":"late"`) || l.Dropped() != before {
		t.Errorf("a line of after the stall is lost; dropped %d, before %d", l.Dropped(), before)
	}
}

type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// TestReaderGone: lines for a reader that went away are counted.
func TestReaderGone(t *testing.T) {
	t.Parallel()
	l, err := telemetry.NewLog(gone{}, telemetry.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l.Info("line")
	}
	l.Close(time.Minute)
	l.Info("after the end")
	if n := l.Dropped(); n != 4 {
		t.Errorf("dropped %d lines, want 4", n)
	}
}

// TestLevelAtRuntime: another level holds at once; a wrong one changes nothing.
func TestLevelAtRuntime(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l, err := telemetry.NewLog(&b, telemetry.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l.Debug("hidden")
	if err := l.SetLevel("debug"); err != nil {
		t.Fatal(err)
	}
	if err := l.SetLevel("loud"); err == nil {
		t.Error("the level loud was accepted")
	}
	l.Debug("seen")
	l.Close(time.Minute)
	if got := b.String(); strings.Contains(got, "hidden") || !strings.Contains(got, "seen") {
		t.Errorf("logged %s", got)
	}
}
