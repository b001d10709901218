package flow

import (
	"laaster/internal/change"
	"laaster/internal/expr"
)

// intervalSum is sum of intervals, each field for itself: months, days and microseconds (in 128 bits, low word first), and how many.
type intervalSum struct{}

func (intervalSum) fixed() int { return 40 }

func (intervalSum) add(_ ref, state []byte, v change.Value, w int64) {
	putInt(state, getInt(state)+int64(int32(getWord(v.B, 0)))*w)
	putInt(state[8:], getInt(state[8:])+int64(int32(getWord(v.B, 0)>>32))*w)
	addInteger(state[16:], int64(getWord(v.B, 1)), w)
}

func (intervalSum) result(x *exec, _ ref, state []byte) (change.Value, error) {
	if getInt(state[32:]) == 0 {
		return change.Null(), nil
	}
	months := getInt(state)
	lo, hi := getWord(state, 2), getWord(state, 3)
	if hi != uint64(int64(lo)>>63) {
		months = 1 << 40 // no interval has so many
	}
	var err error
	v := x.made(func(dst []byte) []byte {
		dst, err = expr.AppendIntervalSum(dst, months, getInt(state[8:]), int64(lo))
		return dst
	})
	return v, err
}

func (s intervalSum) average(x *exec, group ref, state []byte) (change.Value, error) {
	sum, err := s.result(x, group, state)
	if err != nil || sum.Null {
		return sum, err
	}
	v := x.made(func(dst []byte) []byte {
		dst, err = expr.AppendIntervalAverage(dst, sum.B, getInt(state[32:]))
		return dst
	})
	return v, err
}

func (intervalSum) free(ref, []byte) {}
func (intervalSum) state(*keeper)    {}
func (intervalSum) bytes() int       { return 0 }
