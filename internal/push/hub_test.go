package push

import (
	"testing"
	"time"
)

// TestPassCost: one pass that had to wait for its processor hardly lengthens the window, passes that cost more do so soon, and those that cost less at once.
func TestPassCost(t *testing.T) {
	h := &Hub{opt: Options{Merge: 8 * time.Millisecond, MergeFactor: 16}}
	var cost time.Duration
	for _, c := range []struct {
		name        string
		passes      int
		took        time.Duration
		least, most time.Duration // the window after them
	}{
		{"a few screens", 20, 30 * time.Microsecond, 450 * time.Microsecond, 480 * time.Microsecond},
		{"a hiccup", 1, 5 * time.Millisecond, 0, 800 * time.Microsecond},
		{"over", 8, 30 * time.Microsecond, 0, 520 * time.Microsecond},
		{"thousands came", 20, 5 * time.Millisecond, 8 * time.Millisecond, 8 * time.Millisecond},
		{"one hiccup less", 1, time.Millisecond, 8 * time.Millisecond, 8 * time.Millisecond},
		{"they left", 20, 30 * time.Microsecond, 0, 800 * time.Microsecond},
		{"a clock that stands", 20, 0, 0, 10 * time.Microsecond},
		{"and goes on", 20, 30 * time.Microsecond, 450 * time.Microsecond, 480 * time.Microsecond},
	} {
		for range c.passes {
			cost = passCost(cost, c.took)
		}
		if w := h.window(cost); w < c.least || w > c.most {
			t.Errorf("%s: merged for %v, want %v to %v", c.name, w, c.least, c.most)
		}
	}
}
