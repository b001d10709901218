package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"laaster/client"
)

// tailTable draws rows for a terminal.
type tailTable struct {
	view   string
	colour bool

	rows     []client.Row // in order
	key      []string
	state    client.State
	fresh    client.Freshness
	pulse    client.Pulse
	position string
	unlisted int // rows that are there and not listed

	marks map[string]tailMark // by row
	gone  []tailGone          // rows that left a moment ago, oldest first
}

// tailMark is what happened to a row a moment ago.
type tailMark struct {
	op  client.Op
	old client.Row
	at  time.Time
}

type tailGone struct {
	key string
	row client.Row
	at  time.Time
}

const (
	tailMarked  = 2 * time.Second // a mark lasts this long
	tailGoneMax = 5               // rows shown that are gone
	tailCell    = 40              // characters of a column at most
)

// mark notes what changed. Rows of a first snapshot are no news.
func (t *tailTable) mark(e *client.Event, now time.Time) {
	if t.marks == nil {
		t.marks = map[string]tailMark{}
		return
	}
	for row, m := range t.marks {
		if now.Sub(m.at) > tailMarked {
			delete(t.marks, row)
		}
	}
	for i := range e.Changes {
		c := &e.Changes[i]
		if c.Op == client.Delete {
			t.gone = append(t.gone, tailGone{string(c.Key), c.Old, now})
		} else {
			t.gone = slices.DeleteFunc(t.gone, func(g tailGone) bool { return g.key == string(c.Key) }) // it is back
			t.marks[string(c.Row)] = tailMark{c.Op, c.Old, now}
		}
	}
	t.gone = t.gone[max(0, len(t.gone)-tailGoneMax):]
}

// render returns the picture: at most height lines of at most width characters, without a newline at the end.
func (t *tailTable) render(now time.Time, width, height int) string {
	for len(t.gone) > 0 && now.Sub(t.gone[0].at) > tailMarked {
		t.gone = t.gone[1:]
	}
	lines := []string{tailClip(t.header(now), width)}
	if line := t.trouble(now); line != "" {
		lines = append(lines, t.paint("33", tailClip(line, width)))
	}
	room := max(0, height-len(lines)-1) // the heading
	type shown struct {
		sign  string
		paint string
		cells []tailColumn
		old   []tailColumn
	}
	var body []shown
	gone := t.gone[max(0, len(t.gone)-room/3):]
	more := 0
	for _, row := range t.rows {
		if len(body) >= room-len(gone) {
			more = len(t.rows) - len(body)
			break
		}
		x := shown{sign: " ", cells: tailCells(row)}
		if m, ok := t.marks[string(row)]; ok && now.Sub(m.at) <= tailMarked {
			if m.op == client.Insert {
				x.sign, x.paint = "+", "32"
			} else {
				x.sign, x.old = "~", tailCells(m.old)
			}
		}
		body = append(body, x)
	}
	if more > 0 && len(body) > 0 {
		body, more = body[:len(body)-1], more+1
	}
	for _, g := range gone {
		body = append(body, shown{sign: "-", paint: "2;31", cells: tailCells(g.row)})
	}
	var columns []string
	widths := map[string]int{}
	numeric := map[string]bool{}
	for _, x := range body {
		for _, c := range x.cells {
			n, met := widths[c.name]
			if !met {
				columns = append(columns, c.name)
				n = tailLetters(c.name)
				numeric[c.name] = true
			}
			widths[c.name] = min(tailCell, max(n, tailLetters(c.text)))
			numeric[c.name] = numeric[c.name] && (c.number || c.text == "")
		}
	}
	heading := " "
	for _, name := range columns {
		heading += " " + tailPad(name, widths[name], numeric[name]) + " "
	}
	lines = append(lines, t.paint("1;4", tailClip(heading, width)))
	for _, x := range body {
		line, left := x.sign, width-1
		for _, name := range columns {
			cell, colour := cellOf(x.cells, name), x.paint
			if x.old != nil && cellOf(x.old, name) != cell {
				colour = "1;33"
			}
			text := tailClip(" "+tailPad(cell, widths[name], numeric[name])+" ", left)
			left -= tailLetters(text)
			line += t.paint(colour, text)
		}
		lines = append(lines, line)
	}
	switch {
	case more > 0:
		lines = append(lines, tailClip(fmt.Sprintf("  … and %d more rows", more), width))
	case t.unlisted > 0:
		lines = append(lines, tailClip(fmt.Sprintf("  %d rows, too many for the server to list", t.unlisted), width))
	case len(t.rows) == 0:
		lines = append(lines, "  no rows")
	}
	return strings.Join(lines[:min(len(lines), height)], "\n")
}

// header says what is shown and how it is doing.
func (t *tailTable) header(now time.Time) string {
	state := string(t.fresh.State)
	if t.fresh.State == client.CatchingUp {
		state = "catching up"
	}
	if t.fresh.State == client.Stale {
		state = "stale for " + tailAge(now.Sub(t.fresh.Since))
	}
	parts := []string{t.view, state, tailCount(len(t.rows), "row"), tailRate(t.pulse.Rate) + " changes/s"}
	if t.pulse.Samples > 0 {
		parts = append(parts, fmt.Sprintf("delay %s (p99 %s)", tailMillis(t.pulse.P50), tailMillis(t.pulse.P99)))
	}
	if t.position != "" {
		parts = append(parts, "at "+t.position)
	}
	return strings.Join(parts, " · ")
}

// trouble says why the rows are not live; empty when they are.
func (t *tailTable) trouble(now time.Time) string {
	switch {
	case t.state.Name == client.StateStale && t.state.RetryAt.After(now):
		return fmt.Sprintf("connection lost (%v); next attempt in %s", t.state.Reason, tailAge(t.state.RetryAt.Sub(now)))
	case t.state.Name == client.StateStale && t.state.Reason != nil:
		return fmt.Sprintf("connection lost (%v); trying again", t.state.Reason)
	case t.fresh.Reason != "":
		return "the view stands still: " + t.fresh.Reason
	}
	return ""
}

func (t *tailTable) paint(code, text string) string {
	if !t.colour || code == "" || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// tailColumn is one value of a row as it is shown.
type tailColumn struct {
	name, text string
	number     bool
}

// tailCells returns the columns of a row in the row's own order.
func tailCells(row client.Row) []tailColumn {
	d := json.NewDecoder(bytes.NewReader(row))
	if _, err := d.Token(); err != nil {
		return nil
	}
	var out []tailColumn
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return out
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return out
		}
		c := tailColumn{name: fmt.Sprint(name), text: string(v)}
		switch v[0] {
		case '"':
			_ = json.Unmarshal(v, &c.text) // it is a string
		case 'n':
			c.text = ""
		case 't', 'f', '{', '[':
		default:
			c.number = true
		}
		c.name, c.text = strings.Map(printable, c.name), strings.Map(printable, c.text)
		out = append(out, c)
	}
	return out
}

func cellOf(cells []tailColumn, name string) string {
	for _, c := range cells {
		if c.name == name {
			return c.text
		}
	}
	return ""
}

// letters counts how many places a text takes; a combining mark takes none, a wide character two.
func tailLetters(s string) int {
	n := 0
	for _, r := range s {
		n += tailPlaces(r)
	}
	return n
}

func tailPlaces(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0x1100 && (r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xac00 && r <= 0xd7a3 || r >= 0xf900 && r <= 0xfaff ||
		r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60 || r >= 0xffe0 && r <= 0xffe6 || r >= 0x1f300 && r <= 0x1faff || r >= 0x20000 && r <= 0x3fffd):
		return 2
	}
	return 1
}

// clip cuts a text to n places.
func tailClip(s string, n int) string {
	if tailLetters(s) <= n {
		return s
	}
	if n < 1 {
		return ""
	}
	at := 0
	for i, r := range s {
		if at += tailPlaces(r); at > n-1 {
			return s[:i] + "…"
		}
	}
	return s
}

func tailPad(s string, n int, right bool) string {
	s = tailClip(s, n)
	space := strings.Repeat(" ", max(0, n-tailLetters(s)))
	if right {
		return space + s
	}
	return s + space
}

func tailCount(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

func tailRate(r float64) string {
	if r >= 10 || r == 0 {
		return strconv.FormatFloat(math.Round(r), 'f', 0, 64)
	}
	return strconv.FormatFloat(r, 'f', 1, 64)
}

func tailMillis(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms >= 10 {
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f ms", ms)
}

func tailAge(d time.Duration) string { return max(0, d).Round(time.Second).String() }
