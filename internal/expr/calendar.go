package expr

import "math"

// Instants are microseconds since 1970-01-01 UTC; the ends of int64 are the infinities.
const (
	usPerSecond = 1_000_000
	usPerMinute = 60 * usPerSecond
	usPerHour   = 60 * usPerMinute
	usPerDay    = 24 * usPerHour

	posInfinity = math.MaxInt64
	negInfinity = math.MinInt64

	minDay = -2440588                   // 4714-11-24 BC, day 0 of the Julian calendar that PostgreSQL counts from
	maxDay = math.MaxInt64/usPerDay - 2 // so that no offset overflows
)

// daysOf returns the number of days from 1970-01-01 to a date of the proleptic Gregorian calendar. Years are astronomical: 0 is
// 1 BC. The month is 1 to 12; any day is counted on from the month's first.
func daysOf(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := floorDiv64(year, 400)
	yoe := year - era*400
	doy := (153*(month-3)+2)/5 + day - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

// dateOf is the inverse of daysOf.
func dateOf(days int64) (year, month, day int64) {
	z := days + 719468
	era := floorDiv64(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	m := (5*doy + 2) / 153
	day = doy - (153*m+2)/5 + 1
	month, year = m+3, yoe+era*400
	if month > 12 {
		month, year = month-12, year+1
	}
	return year, month, day
}

func daysInMonth(year, month int64) int64 {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// splitInstant returns the day and the microseconds in it.
func splitInstant(ts int64) (days, us int64) {
	days = floorDiv64(ts, usPerDay)
	return days, ts - days*usPerDay
}

func floorDiv64(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func isFinite(ts int64) bool { return ts != posInfinity && ts != negInfinity }
