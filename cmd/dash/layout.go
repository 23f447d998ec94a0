package main

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// layout aligns rows, and fits them into the cells of a screen; 0: its width is
// not known.
func layout(rows [][]string, width int) string {
	var widths []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], cells(cell))
		}
	}
	if width > 1 && len(widths) > 0 {
		fit(rows, widths, width)
	}
	var b strings.Builder
	for _, r := range rows {
		var line strings.Builder
		for i, cell := range r {
			if i == len(r)-1 {
				line.WriteString(cell)
				break
			}
			line.WriteString(cell + strings.Repeat(" ", widths[i]-cells(cell)+2))
		}
		text := strings.TrimRight(line.String(), " ")
		b.WriteString(cut(text, width) + "\n")
	}
	return b.String()
}

// narrowest is how narrow a column may become to make room for others, if its
// heading allows; the first one names the thing, and is needed to act on it.
const narrowest, narrowestName = 8, 16

// whole is how wide a column may be that is shortened only if nothing else
// helps: states and times say little without their middle.
const whole = 20

// fit shortens the widest columns until a line has room on the screen. What
// cannot be fitted so is cut at the end of the line.
func fit(rows [][]string, widths []int, width int) {
	if !narrow(rows[0], widths, width, whole) {
		narrow(rows[0], widths, width, 0)
	}
	for _, r := range rows {
		for i := range r {
			r[i] = shorten(r[i], widths[i])
		}
	}
}

// narrow gives the columns wider than keep the same width, the greatest that
// fits, and reports whether one does; 0 keeps none.
func narrow(head []string, widths []int, width, keep int) bool {
	least := make([]int, len(widths))
	for i, w := range widths {
		switch {
		case w <= keep:
			least[i] = w
		case i == 0:
			least[i] = min(w, narrowestName)
		case strings.ToUpper(head[i]) == head[i]:
			least[i] = min(w, max(narrowest, cells(head[i])))
		default:
			least[i] = min(w, narrowest)
		}
	}
	for limit := slices.Max(widths); limit >= narrowest; limit-- {
		total := 2 * (len(widths) - 1)
		for i, w := range widths {
			total += min(w, max(limit, least[i]))
		}
		if total > width && (limit > narrowest || keep > 0) {
			continue
		}
		for i, w := range widths {
			widths[i] = min(w, max(limit, least[i]))
		}
		return total <= width
	}
	return false
}

// shorten cuts a text to some cells: sentences at their end, names in the
// middle, because many differ only at the end.
func shorten(s string, width int) string {
	if cells(s) <= width || strings.Contains(s, " ") {
		return cut(s, width)
	}
	tail := 0
	end := len(s)
	for end > 0 {
		r, n := utf8.DecodeLastRuneInString(s[:end])
		if tail+cellsOf(r) > (width-1)/2 {
			break
		}
		tail += cellsOf(r)
		end -= n
	}
	head, begin := 0, 0
	for begin < end {
		r, n := utf8.DecodeRuneInString(s[begin:])
		if head+cellsOf(r) > width-1-tail {
			break
		}
		head += cellsOf(r)
		begin += n
	}
	return s[:begin] + "…" + s[end:]
}

// cut shortens a line to the cells of a screen; 0: its width is not known.
func cut(text string, width int) string {
	if width <= 1 || cells(text) <= width {
		return text
	}
	used := 0
	for i, r := range text {
		if used += cellsOf(r); used > width-1 {
			return text[:i] + "…"
		}
	}
	return text
}

// cells is how many columns of a screen a text takes.
func cells(s string) (n int) {
	for _, r := range s {
		n += cellsOf(r)
	}
	return n
}

// wideRunes take two columns: East Asian scripts and pictures.
var wideRunes = [][2]rune{{0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0xa4cf}, {0xa960, 0xa97f}, {0xac00, 0xd7a3}, {0xf900, 0xfaff},
	{0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd},
	{0x231a, 0x231b}, {0x23e9, 0x23ec}, {0x23f0, 0x23f0}, {0x23f3, 0x23f3}, {0x25fd, 0x25fe}, {0x2614, 0x2615}, {0x2648, 0x2653}, {0x267f, 0x267f},
	{0x2693, 0x2693}, {0x26a1, 0x26a1}, {0x26aa, 0x26ab}, {0x26bd, 0x26be}, {0x26c4, 0x26c5}, {0x26ce, 0x26ce}, {0x26d4, 0x26d4}, {0x26ea, 0x26ea},
	{0x26f2, 0x26f3}, {0x26f5, 0x26f5}, {0x26fa, 0x26fa}, {0x26fd, 0x26fd}, {0x2705, 0x2705}, {0x270a, 0x270b}, {0x2728, 0x2728}, {0x274c, 0x274c},
	{0x274e, 0x274e}, {0x2753, 0x2755}, {0x2757, 0x2757}, {0x2795, 0x2797}, {0x27b0, 0x27b0}, {0x27bf, 0x27bf}, {0x2b1b, 0x2b1c}, {0x2b50, 0x2b50},
	{0x2b55, 0x2b55}, {0x1f004, 0x1f004}, {0x1f0cf, 0x1f0cf}, {0x1f18e, 0x1f18e}, {0x1f191, 0x1f19a}, {0x1f200, 0x1f265}, {0x1f7e0, 0x1f7eb},
	{0x1fa70, 0x1faff}}

func cellsOf(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	for _, w := range wideRunes {
		if r >= w[0] && r <= w[1] {
			return 2
		}
	}
	return 1
}
