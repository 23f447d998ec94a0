package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/persistence"
)

func TestJudgeRoom(t *testing.T) {
	t.Parallel()
	const reserve = 128 << 20
	for _, c := range []struct {
		name         string
		free, inside int64
		left         int64
		full         bool
	}{
		{"short", reserve - 1, 0, 0, true},
		{"made up for by free pages", reserve - 10, 30, 20, false},
		{"just made up for", reserve - 10, 10, 0, true},
		{"the log has too little", reserve/2 - 1, 10 * reserve, 0, true},
	} {
		r := judgeRoom("/data", c.free, reserve, c.inside)
		if r.Full() != c.full || r.Left != c.left || c.full && (!strings.Contains(r.Why, "/data") || r.Next == "") {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

// TestRoomOfDisk fills a small file system: the store says so while it still
// takes writes, and has room again when the disk does.
func TestRoomOfDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: no file system of our own to fill")
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Logf("this machine lets nobody mount a tmpfs: %v", err)
		return
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	db := openTest(t, Config{Dir: dir})
	defer closeDB(t, db)
	if r := db.Room(); r.Full() || r.Left <= 0 || r.Left > 48<<20 {
		t.Fatalf("on an empty disk of 64 MiB: %+v", r)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 52<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	await := func(full bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); db.Room().Full() != full; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("full is %v after 10 s: %+v", !full, db.Room())
			}
		}
	}
	await(true)
	if _, err := db.Commit(t.Context(), []persistence.Op{{}}); err != nil {
		t.Errorf("what is under way finds no room: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	await(false)
}

// TestFullDiskIsNamed: neither an old store nor a new one can be opened, and the
// error says why.
func TestFullDiskIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: no file system of our own to fill")
		return
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=24m"); err != nil {
		t.Logf("this machine lets nobody mount a tmpfs: %v", err)
		return
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	old, fresh := filepath.Join(disk, "old"), filepath.Join(disk, "new")
	closeDB(t, openTest(t, Config{Dir: old}))
	if err := os.Mkdir(fresh, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(disk, "ballast"), make([]byte, 32<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	for _, dir := range []string{old, fresh} {
		var full *FullError
		db, err := Open(t.Context(), Config{Dir: dir})
		if err == nil {
			closeDB(t, db)
		}
		if !errors.As(err, &full) || !strings.Contains(err.Error(), "the disk of "+dir+" is full") {
			t.Errorf("%v", err)
		}
	}
}
