package adaptertest

import (
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/dash-fleet/dash/actors/openclaw"
)

type object = map[string]any

// rewrite changes the gateway's configuration file as Dash does: whole, by a
// rename. It returns what the gateway said of it before, and how to put it back.
func (b *bench) rewrite(c *openclaw.Conn, change func(object)) (before openclaw.ConfigState, back func()) {
	b.Helper()
	before, err := c.ConfigState(b.ctx)
	b.ok("config state", err)
	if !before.Current() || before.Problem != "" {
		b.Fatalf("before the change: %+v, want a configuration in force", before)
	}
	return before, b.change(change)
}

// change is rewrite that asks nothing.
func (b *bench) change(change func(object)) (back func()) {
	b.Helper()
	old, err := os.ReadFile(b.ConfigPath)
	b.ok("read the file", err)
	var tree object
	b.ok("decode the file", json.Unmarshal(old, &tree))
	change(tree)
	b.replace(tree)
	return func() { b.put(old) }
}

func (b *bench) replace(tree object) {
	b.Helper()
	raw, err := json.MarshalIndent(tree, "", "  ")
	b.ok("encode the file", err)
	b.put(raw)
}

// put replaces the file. Whoever watches it may tell by the number of its inode
// alone that it was replaced (chokidar does, and else goes on watching the file
// that is gone), so the one before keeps its number until the test ends.
func (b *bench) put(raw []byte) {
	b.Helper()
	old, err := os.Open(b.ConfigPath)
	b.ok("open the file before", err)
	b.Cleanup(func() { _ = old.Close() })
	b.ok("write the file", os.WriteFile(b.ConfigPath+".next", raw, 0o600))
	b.ok("rename the file", os.Rename(b.ConfigPath+".next", b.ConfigPath))
}

// taken waits until the gateway runs with the file that followed before.
func (b *bench) taken(c *openclaw.Conn, before openclaw.ConfigState) {
	b.Helper()
	b.until("the new configuration is in force", patience, func() bool {
		now, err := c.ConfigState(b.ctx)
		return err == nil && now.Hash != before.Hash && now.Current() && now.Revision != before.Revision
	})
}

func defaultsOf(tree object) object { return tree["agents"].(object)["defaults"].(object) }

func (b *bench) lane(c *openclaw.Conn) int {
	b.Helper()
	lanes, err := c.Lanes(b.ctx)
	b.ok("lanes", err)
	for _, l := range lanes {
		if l.Name == openclaw.MainLane {
			return l.MaxConcurrent
		}
	}
	return 0
}

// testConfigHot: a gateway takes most of a changed file while it runs, and its
// runs go on.
func testConfigHot(b *bench) {
	c, _ := b.dial()
	r := b.send(c, b.session(), runID(), delay(2*b.Unit, "goes on")).accepted().working(c)
	before, back := b.rewrite(c, func(tree object) {
		defaultsOf(tree)["maxConcurrent"] = b.MaxConcurrent + 2
		tree["hooks"] = object{"enabled": true, "token": "a-token-of-hooks-0123456789"}
	})
	b.taken(c, before)
	if got := b.lane(c); got != b.MaxConcurrent+2 {
		b.Errorf("the lane takes %d runs, want %d", got, b.MaxConcurrent+2)
	}
	if a := r.final(); !strings.Contains(a.Text, "goes on") {
		b.Errorf("reply %q", a.Text)
	}
	before, err := c.ConfigState(b.ctx)
	b.ok("config state", err)
	back()
	b.taken(c, before)
	if got := b.lane(c); got != b.MaxConcurrent {
		b.Errorf("the lane takes %d runs, want %d again", got, b.MaxConcurrent)
	}
}

// testConfigRefused: a file that is not valid changes nothing. 2026.8 does not
// even say that there is one.
func testConfigRefused(b *bench) {
	c, _ := b.dial()
	before, back := b.rewrite(c, func(tree object) { tree["gateway"].(object)["nonsense"] = true })
	if strings.HasPrefix(b.Version, "2026.8.") {
		b.never("the refused configuration is in force", b.Unit, func() bool {
			now, err := c.ConfigState(b.ctx)
			return err == nil && (now.Hash != before.Hash || now.Applied != before.Applied)
		})
	} else {
		b.until("the refusal is told", patience, func() bool {
			now, err := c.ConfigState(b.ctx)
			return err == nil && now.Hash != before.Hash && !now.Current() && now.Applied == before.Applied && strings.Contains(now.Problem, "nonsense")
		})
	}
	b.send(c, b.session(), runID(), "still at work").final()
	// A change that can be seen shows that the gateway has found its way back.
	back()
	back = b.change(func(tree object) { defaultsOf(tree)["maxConcurrent"] = b.MaxConcurrent + 1 })
	b.until("a valid file is taken again", patience, func() bool { return b.lane(c) == b.MaxConcurrent+1 })
	back()
	b.until("the old file is taken again", patience, func() bool { return b.lane(c) == b.MaxConcurrent })
}

// testConfigRestart: for some keys the gateway restarts by itself, when its runs
// have ended.
func testConfigRestart(b *bench) {
	c, _ := b.dial()
	b.until("the file is well again", patience, func() bool {
		now, err := c.ConfigState(b.ctx)
		return err == nil && now.Current()
	})
	boot := c.Hello().BootID
	r := b.send(c, b.session(), runID(), delay(2*b.Unit, "ends before")).accepted().working(c)
	before, _ := b.rewrite(c, func(tree object) { tree["env"] = object{"vars": object{"DASH_TEST": "1"}} })
	if a := r.final(); !strings.Contains(a.Text, "ends before") {
		b.Errorf("reply %q", a.Text)
	}
	b.until("the connection is closed", patience, func() bool {
		select {
		case <-c.Done():
			return true
		default:
			return false
		}
	})
	var closed *openclaw.ClosedError
	if !errors.As(c.Err(), &closed) || closed.Code != openclaw.CloseRestart {
		b.Errorf("close: %v, want 1012", c.Err())
	}
	b.until("the gateway is back", patience, func() bool {
		again, err := openclaw.Dial(b.ctx, b.config(), nil)
		if err == nil {
			again.Close()
		}
		return err == nil
	})
	c, _ = b.dial()
	now, err := c.ConfigState(b.ctx)
	b.ok("config state", err)
	if !now.Current() || c.Hello().BootID == boot || now.Applied == before.Applied {
		b.Errorf("after the restart: %+v in boot %s, want the new one in force", now, c.Hello().BootID)
	}
}
