//go:build crashpoints

package fault

import (
	"testing"
	"time"

	"laaster/internal/kit/run"
)

// TestClock: the time of day jumps, what passes does not.
func TestClock(t *testing.T) {
	t.Setenv("LAASTER_CLOCK", "0s:-24h")
	before := time.Now()
	c := Clock(run.System{})
	now := c.Now()
	if d := now.Sub(before); d < 0 || d > time.Minute {
		t.Errorf("%v have passed", d)
	}
	if d := before.Unix() - now.Unix(); d < 86400-60 || d > 86400 {
		t.Errorf("the time of day is %d s behind", d)
	}
	t.Setenv("LAASTER_CLOCK", "")
	if Clock(run.System{}) != (run.System{}) {
		t.Error("a clock that nobody sets wrong is another one")
	}
}
