package sqlite

import (
	"strings"
	"testing"
)

// TestSettingsAreReadBack: a connection that would not sync each commit is refused.
func TestSettingsAreReadBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := openTest(t, Config{Dir: dir})
	defer closeDB(t, db)
	c, err := openConn(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := c.query(`PRAGMA synchronous = NORMAL`, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.durable(); err == nil || !strings.Contains(err.Error(), "synchronous 1") {
		t.Errorf("without an fsync for each commit: %v", err)
	}
}
