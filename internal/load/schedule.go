package load

import (
	"fmt"
	"math"
	"time"
)

// maxRequests bounds a schedule: 8 bytes for each are kept.
const maxRequests = 20_000_000

// Schedule says when requests are due, as offsets from the beginning, ascending.
type Schedule []time.Duration

// Constant is rate requests a second for length, evenly.
func Constant(rate float64, length time.Duration) (Schedule, error) {
	return Ramp(rate, rate, length)
}

// Ramp goes from one rate to another, evenly, within length. Rates are requests a second, from 0; one of them is above.
func Ramp(from, to float64, length time.Duration) (Schedule, error) {
	if !(from >= 0) || !(to >= 0) || from+to == 0 || length <= 0 || math.IsInf(from+to, 0) {
		return nil, fmt.Errorf("a ramp from %v to %v requests/s within %s is none: rates from 0 and not both 0, a length above 0", from, to, length)
	}
	n, err := count((from + to) / 2 * length.Seconds())
	if err != nil {
		return nil, err
	}
	s := make(Schedule, n)
	slope := (to - from) / length.Seconds()
	for i := range s {
		s[i] = seconds(inverse(from, slope, float64(i)))
	}
	return s, nil
}

// inverse returns when from·t + slope·t²/2 reaches n.
func inverse(from, slope, n float64) float64 {
	switch {
	case n == 0:
		return 0
	case slope == 0:
		return n / from
	}
	return 2 * n / (from + math.Sqrt(max(0, from*from+2*slope*n)))
}

// Burst is rate requests a second, and times as many for the first on of each every.
func Burst(rate, times float64, on, every, length time.Duration) (Schedule, error) {
	if !(rate > 0) || !(times >= 1) || on <= 0 || every <= on || length <= 0 || math.IsInf(rate*times, 0) {
		return nil, fmt.Errorf("bursts of %v times %v requests/s for %s of each %s within %s are none: a rate above 0, times from 1, and the burst shorter than its period",
			times, rate, on, every, length)
	}
	per := rate * (times*on.Seconds() + (every - on).Seconds()) // of one period
	n, err := count(per * (length.Seconds()/every.Seconds() + 1))
	if err != nil {
		return nil, err
	}
	s := make(Schedule, 0, n)
	for i := 0; ; i++ {
		period, k := math.Floor(float64(i)/per), math.Mod(float64(i), per)
		t := k / (rate * times)
		if high := rate * times * on.Seconds(); k > high {
			t = on.Seconds() + (k-high)/rate
		}
		at := seconds(period*every.Seconds() + t)
		if at >= length || len(s) == maxRequests {
			return s, nil
		}
		s = append(s, at)
	}
}

func count(n float64) (int, error) {
	if n > maxRequests {
		return 0, fmt.Errorf("%.0f requests are more than %d: lower the rate, shorten the time, or send more rows in a request", n, maxRequests)
	}
	return max(1, int(n)), nil
}

func seconds(t float64) time.Duration { return time.Duration(t * float64(time.Second)) }

// Length is when the last request is due.
func (s Schedule) Length() time.Duration {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1]
}
