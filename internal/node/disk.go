package node

import (
	"context"
	"fmt"
	"time"

	"laaster/internal/change"
	"laaster/internal/wire"
)

// diskEvery is how often the free space is looked at. At 500 MB/s, which is more than a log writes, the default low-water mark of 256 MiB is
// half of that away from a full disk.
const diskEvery = 250 * time.Millisecond

// diskLoop refuses writes while the disk is low, so that it does not become full, and takes them again when there is room.
func (n *Node) diskLoop(ctx context.Context) error {
	if n.guard == nil {
		return nil
	}
	low := false
	for {
		now, free := n.guard.Check()
		switch {
		case now && !low:
			p := wire.NewProblem(wire.Busy, fmt.Sprintf("the disk that holds the log is low: %d MiB are free, writes are refused under %d MiB", free>>20, n.opt.Settings.Disk.LowWater>>20)).
				WithHint("free space on it; writes are taken again by themselves")
			p.RetryAfterMS = 10_000
			n.writer.Pause(p)
			n.degrade("disk", p.Detail)
			n.opt.Logger.Error("writes are refused: the disk is low", "free", free)
			n.wantCheckpoint() // lets the log be trimmed, where retention says so
		case low && !now:
			n.writer.Resume()
			n.restore("disk")
			n.opt.Logger.Info("writes are taken again: the disk has room", "free", free)
		case !now:
			n.guard.Restore()
		}
		low = now
		select {
		case <-ctx.Done():
			return nil
		case <-n.ended:
			return nil
		case <-n.opt.Clock.After(diskEvery):
		}
	}
}

// wantCheckpoint has one written soon.
func (n *Node) wantCheckpoint() {
	select {
	case n.kept.grown <- struct{}{}:
	default:
	}
}

// reopenLog takes a log that stopped for want of space back to work; the writer calls it until it succeeds.
func (n *Node) reopenLog(ctx context.Context) ([]change.Batch, error) {
	reason := "the log has stopped"
	if err := n.shard.Err(); err != nil {
		reason = err.Error()
	}
	n.degrade("log", reason+" It is being reopened.")
	if n.guard != nil {
		n.guard.GiveUp()
	}
	found, err := n.shard.Reopen(ctx)
	if err == nil {
		n.restore("log")
	}
	return found, err
}
