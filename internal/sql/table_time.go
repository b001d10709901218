package sql

import (
	"encoding/binary"
	"slices"

	"laaster/app"
	"laaster/internal/expr"
)

// time turns the options about time, which have been checked, into the table's rules.
func (p *tableParts) time() {
	r, o := p.rules, p.table.Options
	r.EventTime = -1
	if p.table.AppendOnly {
		r.EventTime = slices.Index(columnNames(p.table.Columns), o["event_time"])
	}
	r.Lateness, r.Idle = spanOf(o["lateness"]), spanOf(o["idle"])
	r.TTL, r.Dedupe = spanOf(o["ttl"]), spanOf(o["dedupe"])
}

// spanOf returns the microseconds of an interval's text, a month being 30 days; 0 when it is empty, negative or no interval, and at most a
// hundred thousand days.
func spanOf(text string) int64 {
	const (
		day     = 86400 * 1000 * 1000
		longest = 100_000 * day
	)
	if text == "" {
		return 0
	}
	v, _, err := expr.ParseText(app.Interval, []byte(text), nil)
	if err != nil {
		return 0
	}
	months, days := int32(binary.LittleEndian.Uint32(v.B)), int32(binary.LittleEndian.Uint32(v.B[4:]))
	whole := min(max(int64(months)*30+int64(days), -longest/day), longest/day) * day
	us := min(max(int64(binary.LittleEndian.Uint64(v.B[8:])), -longest), longest)
	return min(max(whole+us, 0), longest)
}
