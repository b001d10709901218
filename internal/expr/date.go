package expr

import (
	"laaster/app"
	"laaster/internal/change"
)

// Dates are days since 1970-01-01; the ends of int32 are the infinities.
const (
	posInfinityDay = 1<<31 - 1
	negInfinityDay = -1 << 31

	lastDay = 2147483494 - 1 + minDay // 5874897-12-31, as PostgreSQL's DATE_END_JULIAN has it
)

// validDay reports whether a day is one of date, which holds later years than the times do.
func validDay(days int64) bool { return days >= minDay && days <= lastDay }

func isFiniteDay(days int64) bool { return days != posInfinityDay && days != negInfinityDay }

// infinityOf returns the infinity of a type of times.
func infinityOf(t app.Type, sign int) int64 {
	switch {
	case t == app.Date && sign < 0:
		return negInfinityDay
	case t == app.Date:
		return posInfinityDay
	case sign < 0:
		return negInfinity
	}
	return posInfinity
}

// dayToInstant converts a date to its first moment in UTC.
func dayToInstant(days int64) (int64, error) {
	switch {
	case days == posInfinityDay:
		return posInfinity, nil
	case days == negInfinityDay:
		return negInfinity, nil
	case days > maxDay:
		return 0, &EvalError{codeDateRange, "date out of range for timestamp"}
	}
	return days * usPerDay, nil
}

// instantToDay returns the day of a moment.
func instantToDay(ts int64) int64 {
	switch ts {
	case posInfinity:
		return posInfinityDay
	case negInfinity:
		return negInfinityDay
	}
	return floorDiv64(ts, usPerDay)
}

// castTime converts between date, timestamp and timestamptz.
func castTime(from, to app.Type) func(c *Ctx, v change.Value) (change.Value, error) {
	switch {
	case from == app.Date:
		return func(_ *Ctx, v change.Value) (change.Value, error) {
			ts, err := dayToInstant(v.N)
			return change.Int(ts), err
		}
	case to == app.Date:
		return func(_ *Ctx, v change.Value) (change.Value, error) { return change.Int(instantToDay(v.N)), nil }
	}
	return func(_ *Ctx, v change.Value) (change.Value, error) { return v, nil } // the zone is UTC
}

// appendDay appends PostgreSQL's output of a date.
func appendDay(dst []byte, days int64) []byte {
	if !isFiniteDay(days) {
		return appendInfinity(dst, days)
	}
	year, month, day := dateOf(days)
	dst, bc := appendDate(dst, year, month, day, ' ')
	dst = dst[:len(dst)-1]
	if bc {
		dst = append(dst, " BC"...)
	}
	return dst
}
