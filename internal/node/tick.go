package node

import (
	"context"
	"math"
	"time"
)

// tickEvery is the least time between two ticks: empty batches that move the log's time on when a view has something due and nothing is
// written.
const tickEvery = 100 * time.Millisecond

// tickAgain is after which time a tick that has changed nothing yet is asked for again: the log may have refused it.
const tickAgain = time.Second

// tickLoop appends a tick when the engine has something due. The engine loop tells it when that is, after each batch.
func (n *Node) tickLoop(ctx context.Context) error {
	due, least := int64(math.MaxInt64), tickEvery
	var timer <-chan time.Time
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.ended:
			return nil
		case due = <-n.due:
			least = tickEvery
		case <-timer:
			last, least = n.opt.Clock.Now(), tickAgain
			n.writer.Tick()
		}
		timer = nil
		if due != math.MaxInt64 {
			now := n.opt.Clock.Now()
			timer = n.opt.Clock.After(max(time.UnixMicro(due).Sub(now), last.Add(least).Sub(now), 0))
		}
	}
}

// tellDue tells the tick loop when the engine has something due, if that has changed or a tick was just applied.
func (n *Node) tellDue(ticked bool) {
	due := n.engine.NextDue()
	if d := n.next.Load(); d != nil && d.late { // it waits for a batch to take effect at
		due = min(due, n.opt.Clock.Now().UnixMicro())
	}
	if due == n.lastDue && !ticked {
		return
	}
	n.lastDue = due
	select {
	case <-n.due: // what it has not looked at yet is old
	default:
	}
	n.due <- due // capacity 1, and nobody else sends
}
