package expr

import "laaster/internal/change"

// IntervalFields returns the fields of an interval, which do not convert into each other by themselves.
func IntervalFields(v change.Value) (months, days int32, us int64) {
	iv := toInterval(v.B)
	return iv.months, iv.days, iv.us
}
