package postgres

import (
	"testing"

	"github.com/dash-fleet/dash/persistence/storetest"
)

// TestFenceMatters removes the fence from the batch: the stress must find what
// it is there for.
func TestFenceMatters(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Committers = 16
	db := openTest(t, cfg)
	db.unfenced = true
	for range 20 {
		if late, written := storetest.TakeOverStress(t, db, 16, 12); late > 0 {
			t.Logf("%d of %d events are late without the fence", late, written)
			return
		}
		db = openTest(t, testConfigLike(t, cfg))
		db.unfenced = true
	}
	t.Error("no late event without a fence: the stress proves nothing")
}

// testConfigLike is cfg on an empty database.
func testConfigLike(t testing.TB, cfg Config) Config {
	cfg.URL = testConfig(t).URL
	return cfg
}
