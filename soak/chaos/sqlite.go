package chaos

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dash-fleet/dash/soak/harness"
)

// Exit codes of dash serve.
const (
	exitFailed   = 1
	exitConflict = 4
)

// refusalPatience bounds how long a start may take to refuse.
const refusalPatience = 30 * time.Second

// refused starts a node of its own on a folder and wants it to end by itself,
// with the exit code, without a panic, and with all the words.
func (e *Env) refused(ctx context.Context, data string, code int, words ...string) error {
	ctx, cancel := context.WithTimeout(ctx, refusalPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, e.Binary, "serve", "--data", data, "--listen", "127.0.0.1:0").CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("dash serve did not refuse within %s: %s", refusalPatience, out)
	case !errors.As(err, &exit) || exit.ExitCode() != code:
		return fmt.Errorf("dash serve ended with %w, want exit code %d: %s", errors.Join(errors.New("a wrong code"), err), code, out)
	case bytes.Contains(out, []byte("panic:")):
		return fmt.Errorf("dash serve panicked: %s", out)
	}
	for _, w := range words {
		if !bytes.Contains(out, []byte(w)) {
			return fmt.Errorf("the refusal does not say %q: %s", w, out)
		}
	}
	return nil
}

// sqliteSecond starts a second node on the folder of one that works.
func sqliteSecond(ctx context.Context, e *Env) error {
	var pid int
	return e.underLoad(ctx, harness.Config{}, 60, func(ctx context.Context, b *harness.Bench, _ int) error {
		if pid == 0 {
			pid = b.Dash.PID()
		}
		if err := e.refused(ctx, dataOf(e), exitConflict, fmt.Sprintf("in use by process %d", pid), "next: "); err != nil {
			return err
		}
		if b.Dash.PID() != pid || !b.Dash.Alive() {
			return errors.New("the first node did not survive")
		}
		_, err := accepts(ctx, b, servesAgain)
		return err
	})
}

func dataOf(e *Env) string { return filepath.Join(e.Dir, "data") }

// Files of the embedded store.
const (
	databaseFile = "dash.db"
	logFile      = "dash.db-wal"
)

// sqliteCorrupt stops the node and damages its files, in turns: a torn end of
// the log, which is nothing; acknowledged commits cut off the log, pages of the
// database overwritten, and the first page alone, which are refused. Putting the
// bytes back stands for the restore.
func sqliteCorrupt(ctx context.Context, e *Env) error {
	return e.underLoad(ctx, harness.Config{}, 60, func(ctx context.Context, b *harness.Bench, round int) error {
		defer b.History.Fault("dash-kill", "")()
		// The first two are those of a short run. Pages are in the database, and
		// not only in the log, after a stop in order.
		turn := []int{1, 2, 0, 3}[round%4]
		stop := b.Dash.Stop
		if turn < 2 {
			stop = func() error { return e.killWithLog(ctx, b) }
		}
		if err := stop(); err != nil {
			return err
		}
		what, err := e.damageStore(ctx, turn)
		if err != nil {
			return err
		}
		at := time.Now()
		if err := b.Dash.Start(ctx); err != nil {
			return err
		}
		took, err := accepts(ctx, b, patience)
		e.Logf("round %d: %s; ready after %s, accepted again %s later", round+1, what, time.Since(at).Round(time.Millisecond), took.Round(time.Millisecond))
		return err
	})
}

// damageStore damages the files of a stopped node and sees it refuse, twice and
// the same way, where something is lost.
func (e *Env) damageStore(ctx context.Context, turn int) (what string, err error) {
	name := databaseFile
	if turn < 2 {
		name = logFile
	}
	path := filepath.Join(dataOf(e), name)
	whole, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var broken []byte
	said := "is damaged"
	switch turn {
	case 0:
		return "the log's end torn", os.WriteFile(path, torn(whole, endOfLog(whole)), 0o600)
	case 1:
		what, broken, said = "half of the log cut off", whole[:endOfLog(whole)/2], "has lost its last"
	case 2:
		what, broken = "every second page damaged", bytes.Clone(whole)
		page := int(binary.BigEndian.Uint16(whole[16:])) // of 512 to 32768 bytes
		for at := page; at < len(broken); at += 2 * page {
			copy(broken[at:], strings.Repeat("\xa5", 64))
		}
	default:
		what, broken = "the first page damaged", bytes.Clone(whole)
		copy(broken, strings.Repeat("\xa5", 64))
	}
	if err := os.WriteFile(path, broken, 0o600); err != nil {
		return "", err
	}
	for range 2 {
		if err := e.refused(ctx, dataOf(e), exitFailed, said, "next: ", "dash restore"); err != nil {
			return "", fmt.Errorf("%s: %w", what, err)
		}
		// A refusal leaves the evidence alone; what SQLite itself tidies up is
		// put back with the rest.
	}
	return what + " and refused", os.WriteFile(path, whole, 0o600)
}

// enoughLog is a log of many commits, in bytes.
const enoughLog = 400_000

// killWithLog kills the node when its log is long enough to lose something with
// a part of it. A log that starts over is short for a while.
func (e *Env) killWithLog(ctx context.Context, b *harness.Bench) error {
	for range 10 {
		b.Dash.Kill()
		log, err := os.ReadFile(filepath.Join(dataOf(e), logFile))
		if err != nil {
			return err
		}
		if endOfLog(log) >= enoughLog {
			return nil
		}
		if err := errors.Join(b.Dash.Start(ctx), harness.Pause(ctx, time.Second)); err != nil {
			return err
		}
	}
	return errors.New("the log was too short to be damaged, ten times")
}

// endOfLog is where the frames of the log's present generation end.
func endOfLog(log []byte) int {
	end, frame := 32, frameSize(log)
	for ; end+frame <= len(log) && bytes.Equal(log[end+8:end+16], log[16:24]); end += frame {
	}
	return end
}

// frameSize is that of a page and of what describes it.
func frameSize(log []byte) int { return 24 + int(binary.BigEndian.Uint32(log[8:])) }

// torn is the log with a frame of a commit that the stop cut short behind its
// end: the right salt, and half of another page.
func torn(log []byte, end int) []byte {
	frame := frameSize(log)
	b := append(bytes.Clone(log[:end]), log[end-frame:end-frame+24]...)
	return append(b, bytes.Repeat([]byte{0x5a}, frame/2)...)
}
