package persistence

import (
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// FuzzCursorPlace: a cursor is refused as a client's mistake, or is a place that
// gives the same cursor again.
func FuzzCursorPlace(f *testing.F) {
	for _, s := range []string{"", "0", "-1", "zz", "+1", "1y2p0ij32e8e7", "1y2p0ij32e8e8", "Z", "_1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		place, err := CursorPlace(s)
		switch {
		case err != nil:
			if messages.CodeOf(err) != messages.CodeInvalid || place != 0 {
				t.Fatalf("%q: %d, %v", s, place, err)
			}
		case s == "":
		case place <= 0:
			t.Fatalf("%q is place %d", s, place)
		default:
			if again, err := CursorPlace(Cursor(place)); err != nil || again != place {
				t.Fatalf("%q: %d, then %d, %v", s, place, again, err)
			}
		}
		SearchedTo(s)
		if id, tenant := SplitSessionPlace(s); id == "" && tenant != "" && s[0] != '/' {
			t.Fatalf("%q: tenant %q of no id", s, tenant)
		}
	})
}
