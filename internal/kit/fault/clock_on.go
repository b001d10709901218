//go:build crashpoints

package fault

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"laaster/internal/kit/run"
)

// Clock returns c as LAASTER_CLOCK sets it wrong: as many times as it says "<after>:<offset>", separated by commas, the time of day is offset from
// the truth once so much has passed since the start. Offsets are whole seconds, and do not add up. As on a machine whose clock is set, only the time of
// day jumps: what has passed between two readings, and waits, stay right.
func Clock(c run.Clock) run.Clock {
	text := os.Getenv("LAASTER_CLOCK")
	if text == "" {
		return c
	}
	j := &jumping{Clock: c, start: c.Now()}
	for _, part := range strings.Split(text, ",") {
		after, by, _ := strings.Cut(part, ":")
		a, err := time.ParseDuration(after)
		b, err2 := time.ParseDuration(by)
		if err != nil || err2 != nil || b%time.Second != 0 {
			panic(fmt.Sprintf("LAASTER_CLOCK: %q is not <after>:<offset>", part))
		}
		j.jumps = append(j.jumps, jump{a, b})
	}
	return j
}

type jump struct{ after, by time.Duration }

type jumping struct {
	run.Clock
	start time.Time
	jumps []jump
}

// Now implements run.Clock.
func (j *jumping) Now() time.Time {
	now := j.Clock.Now()
	passed, by := now.Sub(j.start), time.Duration(0)
	for _, x := range j.jumps {
		if passed >= x.after {
			by = x.by
		}
	}
	return set(now, by)
}

// set moves the time of day of t and leaves its monotonic reading as it is, which package time has no function for: in the first word of a Time with
// a monotonic reading, the bits from 30 on are the seconds of the time of day.
func set(t time.Time, by time.Duration) time.Time {
	moved := t
	*(*uint64)(unsafe.Pointer(&moved)) += uint64(by/time.Second) << 30
	if moved.Sub(t) != 0 || moved.UnixMicro()-t.UnixMicro() != by.Microseconds() {
		panic("fault: package time keeps its times otherwise than this was written for")
	}
	return moved
}
