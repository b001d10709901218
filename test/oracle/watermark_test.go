package oracle

import (
	"strings"
	"time"
)

// watermark is the watermark of a table as the documentation has it: the newest event time, at most a minute ahead of the log, less the
// lateness. When nothing came for the idle span and the last rows were live, it goes on with the log's time.
type watermark struct {
	col        int
	late, idle time.Duration
	newest     time.Time // zero: no row yet
	mark       time.Time // zero: none
	last       time.Time // stamp of the last row
}

func newWatermark(t *table) *watermark {
	w := &watermark{late: time.Duration(t.late) * time.Second, last: base().Add(-time.Microsecond)}
	w.idle = max(w.late, 10*time.Second)
	for i, c := range t.cols {
		if c.name == "at_" {
			w.col = i
		}
	}
	return w
}

func (w *watermark) raise(t time.Time) {
	if w.mark.IsZero() || t.After(w.mark) {
		w.mark = t
	}
}

// begin comes before the first row of a stamp.
func (w *watermark) begin(us int64) {
	stamp := time.UnixMicro(us).UTC()
	if !w.newest.IsZero() && stamp.Sub(w.last) >= w.idle && !w.newest.Before(w.last.Add(-time.Minute)) {
		w.raise(stamp.Add(-w.idle - w.late))
	}
}

// arrive takes a row.
func (w *watermark) arrive(row []cell, us int64) {
	stamp := time.UnixMicro(us).UTC()
	at, err := time.Parse("2006-01-02 15:04:05", strings.TrimSuffix(row[w.col].text, "+00"))
	if err != nil {
		panic(err)
	}
	w.last = stamp
	if most := stamp.Add(time.Minute); at.After(most) {
		at = most
	}
	if at.After(w.newest) {
		w.newest = at
		w.raise(at.Add(-w.late))
	}
}

// sql is the mark as a constant.
func (w *watermark) sql() string {
	if w.mark.IsZero() {
		return "NULL"
	}
	return "'" + w.mark.Format("2006-01-02 15:04:05.999999") + "+00'::timestamptz"
}
