package sql

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Severity says whether a diagnostic stops the app.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // there is no program
	Warning Severity = "warning" // there is one, but it may not do what was meant
)

// Diagnostic is one thing to say about an app.sql. As JSON it is what `laaster check --json` prints.
type Diagnostic struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`   // from 1
	Col      int      `json:"column"` // from 1, in characters
	Width    int      `json:"width"`  // characters to underline on that line, at least 1
	Severity Severity `json:"severity"`
	Msg      string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`   // what to do about it
	Excerpt  string   `json:"source,omitempty"` // the line
}

// Errors reports whether any of the diagnostics is an error.
func Errors(list []Diagnostic) bool {
	return slices.ContainsFunc(list, func(d Diagnostic) bool { return d.Severity == Error })
}

// excerptWidth is how many characters of a long line are shown around the place.
const excerptWidth = 120

// Render returns the diagnostic as text of several lines, without a newline at the end:
//
//	app.sql:3:10: error: column "nmae" does not exist
//	  3 | SELECT nmae FROM votes;
//	    |        ^^^^
//	  hint: did you mean "name"?
func (d Diagnostic) Render() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: %s: %s", d.File, d.Line, d.Col, d.Severity, d.Msg)
	if strings.TrimSpace(d.Excerpt) != "" {
		line, col := d.window()
		number := fmt.Sprint(d.Line)
		fmt.Fprintf(&b, "\n  %s | %s", number, string(line))
		fmt.Fprintf(&b, "\n  %s | ", strings.Repeat(" ", len(number)))
		for i := range min(col, len(line)) {
			if line[i] == '\t' { // a tab stays a tab, so that the caret stands below whatever its width
				b.WriteByte('\t')
			} else {
				b.WriteByte(' ')
			}
		}
		b.WriteString(strings.Repeat("^", max(1, min(d.Width, len(line)-col))))
	}
	if d.Hint != "" {
		fmt.Fprintf(&b, "\n  hint: %s", d.Hint)
	}
	return b.String()
}

// window returns the part of the source line to show and where in it the place is.
func (d Diagnostic) window() (line []rune, col int) {
	line, col = []rune(d.Excerpt), d.Col-1
	col = min(max(col, 0), len(line))
	if len(line) <= excerptWidth {
		return line, col
	}
	from := max(0, min(col-excerptWidth/3, len(line)-excerptWidth))
	part := slices.Clone(line[from : from+excerptWidth])
	if from > 0 {
		part[0] = '…'
	}
	if from+excerptWidth < len(line) {
		part[len(part)-1] = '…'
	}
	return part, col - from
}

// Render returns all diagnostics as text, a blank line between them, with a newline at the end.
func Render(list []Diagnostic) string {
	var b strings.Builder
	for i, d := range list {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(d.Render())
		b.WriteByte('\n')
	}
	return b.String()
}

// locate makes a diagnostic at the bytes pos to end of src.
func locate(file, src string, pos, end int, sev Severity, msg, hint string) Diagnostic {
	pos = min(max(pos, 0), len(src))
	if pos == len(src) { // the end of the file is behind its last character, not on an empty line of its own
		pos = len(strings.TrimRight(src, " \t\r\n"))
	}
	start := strings.LastIndexByte(src[:pos], '\n') + 1
	stop := len(src)
	if n := strings.IndexByte(src[pos:], '\n'); n >= 0 {
		stop = pos + n
	}
	end = max(pos, min(end, stop))
	return Diagnostic{
		File:     file,
		Line:     1 + strings.Count(src[:start], "\n"),
		Col:      1 + utf8.RuneCountInString(src[start:pos]),
		Width:    max(1, utf8.RuneCountInString(src[pos:end])),
		Severity: sev,
		Msg:      msg,
		Hint:     hint,
		Excerpt:  strings.TrimRight(strings.ToValidUTF8(src[start:stop], "\uFFFD"), "\r"),
	}
}
