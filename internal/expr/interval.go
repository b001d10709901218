package expr

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"

	"laaster/internal/change"
)

// interval is a span as PostgreSQL keeps it: three fields that do not convert into each other by themselves.
type interval struct {
	months, days int32
	us           int64
}

func toInterval(b []byte) interval {
	return interval{
		months: int32(binary.LittleEndian.Uint32(b)),
		days:   int32(binary.LittleEndian.Uint32(b[4:])),
		us:     int64(binary.LittleEndian.Uint64(b[8:])),
	}
}

func (iv interval) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(iv.months))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(iv.days))
	return binary.LittleEndian.AppendUint64(dst, uint64(iv.us))
}

func (c *Ctx) interval(iv interval) change.Value {
	from := len(c.scratch)
	c.scratch = iv.append(c.scratch)
	return c.made(from)
}

// span returns the length in microseconds, with months of 30 days and days of 24 hours, as hi·2^64 + lo in two's
// complement: what intervals are compared by.
func (iv interval) span() (hi int64, lo uint64) {
	days := int64(iv.months)*30 + int64(iv.days)
	uhi, ulo := bits.Mul64(absInt64(days), usPerDay)
	if days < 0 {
		var borrow uint64
		ulo, borrow = bits.Sub64(0, ulo, 0)
		uhi, _ = bits.Sub64(0, uhi, borrow)
	}
	lo, carry := bits.Add64(ulo, uint64(iv.us), 0)
	hi = int64(uhi) + iv.us>>63 + int64(carry)
	return hi, lo
}

func compareInterval(a, b []byte) int {
	ahi, alo := toInterval(a).span()
	bhi, blo := toInterval(b).span()
	switch {
	case ahi < bhi || ahi == bhi && alo < blo:
		return -1
	case ahi == bhi && alo == blo:
		return 0
	}
	return 1
}

// appendText appends PostgreSQL's default output: 1 year 2 mons -3 days +04:05:06.
func (iv interval) appendText(dst []byte) []byte {
	from, negative := len(dst), false
	part := func(n int64, unit string) {
		if n == 0 {
			return
		}
		if len(dst) > from {
			dst = append(dst, ' ')
		}
		if negative && n > 0 {
			dst = append(dst, '+')
		}
		dst = strconv.AppendInt(dst, n, 10)
		dst = append(append(dst, ' '), unit...)
		if n != 1 {
			dst = append(dst, 's')
		}
		negative = n < 0
	}
	part(int64(iv.months/12), "year")
	part(int64(iv.months%12), "mon")
	part(int64(iv.days), "day")
	if iv.us == 0 && len(dst) > from {
		return dst
	}
	if len(dst) > from {
		dst = append(dst, ' ')
	}
	if iv.us < 0 {
		dst = append(dst, '-')
	} else if negative {
		dst = append(dst, '+')
	}
	us := absInt64(iv.us)
	dst = appendPadded(dst, int64(us/usPerHour), 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, int64(us/usPerMinute%60), 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, int64(us/usPerSecond%60), 2)
	return appendFraction(dst, int64(us%usPerSecond), false)
}

func intervalRange() *EvalError { return &EvalError{codeDateRange, "interval out of range"} }

// add32 adds month or day counts.
func add32(a, b int32) (int32, bool) {
	s := int64(a) + int64(b)
	return int32(s), s == int64(int32(s))
}

func addInterval(a, b interval) (interval, error) {
	months, ok1 := add32(a.months, b.months)
	days, ok2 := add32(a.days, b.days)
	us, ok3 := addInt64(a.us, b.us)
	if !ok1 || !ok2 || !ok3 {
		return interval{}, intervalRange()
	}
	return interval{months, days, us}, nil
}

func negInterval(a interval) (interval, error) {
	if a.months == math.MinInt32 || a.days == math.MinInt32 || a.us == math.MinInt64 {
		return interval{}, intervalRange()
	}
	return interval{-a.months, -a.days, -a.us}, nil
}

// scaleInterval multiplies or divides by f: op(x, f) for each field, and what is left of a month or day goes down to the
// smaller fields as PostgreSQL does it, in the same floating-point steps.
func scaleInterval(a interval, f float64, op func(x, f float64) float64) (interval, error) {
	months, days := op(float64(a.months), f), op(float64(a.days), f)
	if !fitsInt32(months) || !fitsInt32(days) {
		return interval{}, intervalRange()
	}
	r := interval{months: int32(months), days: int32(days)}
	restDays := roundMicro(float64((months - float64(r.months)) * 30))
	restSecs := roundMicro(float64((days - float64(r.days) + restDays - math.Trunc(restDays)) * 86400))
	if math.Abs(restSecs) >= 86400 {
		whole := math.Trunc(restSecs / 86400)
		r.days += int32(whole)
		restSecs -= float64(whole * 86400)
	}
	r.days += int32(restDays)
	us := math.RoundToEven(float64(op(float64(a.us), f)) + float64(restSecs*usPerSecond))
	if us != us || us < math.MinInt64 || us >= -math.MinInt64 {
		return interval{}, intervalRange()
	}
	r.us = int64(us)
	return r, nil
}

func fitsInt32(f float64) bool { return f > math.MinInt32-1 && f < math.MaxInt32+1 }

func roundMicro(f float64) float64 { return math.RoundToEven(float64(f*1e6)) / 1e6 }

// addToInstant is timestamptz + interval: months first (the last day of a shorter month stands in), then days, then the rest.
func addToInstant(ts int64, iv interval) (int64, error) {
	if !isFinite(ts) {
		return ts, nil
	}
	if iv.months != 0 {
		days, us := splitInstant(ts)
		year, month, day := dateOf(days)
		total := year*12 + month - 1 + int64(iv.months)
		year, month = floorDiv64(total, 12), total-floorDiv64(total, 12)*12+1
		days = daysOf(year, month, min(day, daysInMonth(year, month)))
		if days < minDay || days > maxDay {
			return 0, instantRange()
		}
		ts = days*usPerDay + us
	}
	if iv.days != 0 {
		days, us := splitInstant(ts)
		days += int64(iv.days)
		if days < minDay || days > maxDay {
			return 0, instantRange()
		}
		ts = days*usPerDay + us
	}
	ts, ok := addInt64(ts, iv.us)
	if !ok || ts < minDay*usPerDay || ts >= (maxDay+1)*usPerDay {
		return 0, instantRange()
	}
	return ts, nil
}

func instantRange() *EvalError { return &EvalError{codeDateRange, "timestamp out of range"} }
