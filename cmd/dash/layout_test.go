package main

import (
	"strings"
	"testing"
)

// TestLongNamesLeaveRoomForTheRest: on 80 columns every column is seen, whatever
// is named how, and each line fits in cells.
func TestLongNamesLeaveRoomForTheRest(t *testing.T) {
	t.Parallel()
	gateway := "gateway-with-a-very-long-name-in-region-eu-central-1-number-17"
	rows := [][]string{
		{"ID", "STATE", "SESSION", "REASON"},
		{gateway, "unreachable", strings.Repeat("日本語", 12), "it cannot be reached now, because nothing listens there"},
		{"gw-🚀✅", "ready", "s", "well"},
	}
	got := layout(rows, 80)
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	at := map[string]int{}
	for _, head := range []string{"STATE", "SESSION", "REASON"} {
		at[head] = cells(lines[0][:strings.Index(lines[0], head)])
	}
	for i, line := range lines {
		if n := cells(line); n > 80 {
			t.Errorf("%d cells: %q", n, line)
		}
		if i > 0 {
			for head, column := range map[string]string{"STATE": rows[i][1], "REASON": rows[i][3][:4]} {
				if j := strings.Index(line, column); j < 0 || cells(line[:j]) != at[head] {
					t.Errorf("%s of line %d does not stand below its heading:\n%s", head, i, got)
				}
			}
		}
	}
	if first := strings.Fields(lines[1])[0]; !strings.HasPrefix(first, "gateway") || !strings.HasSuffix(first, "ber-17") || !strings.Contains(first, "…") {
		t.Errorf("a long name is %q, want its begin and its end", first)
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in    string
		width int
		want  string
	}{
		{"abc", 3, "abc"}, {"abcdefgh", 5, "ab…gh"}, {"abcdefgh", 6, "abc…gh"}, {"two words", 5, "two …"},
		{"日本語日本語", 7, "日本…語"}, {"日本語日本語", 6, "日…語"}, {"日本語", 2, "…"}, {"a🚀🚀🚀b", 5, "a🚀…b"}, {"", 3, ""},
	} {
		if got := shorten(tt.in, tt.width); got != tt.want || cells(got) > tt.width {
			t.Errorf("%q in %d cells: %q, want %q", tt.in, tt.width, got, tt.want)
		}
	}
}

// TestWideIsNotCut: who asks for all columns of a screen gets them.
func TestWideIsNotCut(t *testing.T) {
	t.Parallel()
	type thing struct{ name, text string }
	columns := []column[thing]{
		{name: "NAME", value: func(v thing) string { return v.name }},
		{name: "TEXT", wide: true, value: func(v thing) string { return v.text }},
	}
	var b strings.Builder
	items := []thing{{strings.Repeat("n", 50), strings.Repeat("t", 50)}}
	if err := printList(&terminal{out: &b, screen: true, width: 80}, output{format: "wide"}, columns, items); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), items[0].name+"  "+items[0].text) {
		t.Errorf("%q", b.String())
	}
}
