package expr

import "laaster/internal/change"

// AppendAverage appends the encoding of sum ÷ count, count > 0, with the scale that PostgreSQL's avg gives it. sum is an
// encoded numeric; dst must not alias it.
func AppendAverage(dst, sum []byte, count int64) []byte {
	q, err := divNum(toNum(sum), intNum(count))
	if err != nil { // the count was 0
		q = specialNum(change.NumericNaN)
	}
	return appendNum(dst, &q)
}
