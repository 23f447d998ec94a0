package main

import (
	"strings"
	"testing"

	"github.com/dash-fleet/dash/cmd/internal/config"
)

// TestBannerNamesItsOwnNode: what the banner tells to type reaches this node, and
// not the one at the usual address.
func TestBannerNamesItsOwnNode(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		defaultURL:               "\n  bin/dash task list\n  bin/dash task submit --message",
		"http://127.0.0.1:17391": "\n  DASH_URL=http://127.0.0.1:17391 bin/dash task list\n  DASH_URL=http://127.0.0.1:17391 bin/dash task submit --message",
	} {
		in := introduction{l: &config.Loaded{}, url: url, public: url, key: "dash_a_b", keyFile: "/k"}
		if got := in.banner("bin/dash"); !strings.Contains(got, want) {
			t.Errorf("%s: %s", url, got)
		}
	}
}
