package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"laaster/internal/backbone"
)

// scrubDelay is how long after a start that follows a clean end the first scrub begins.
const scrubDelay = time.Minute

// openScrubber makes what reads everything at rest, when there is a data folder. unclean says that the process before this one did not end well: then it begins at once.
func (n *Node) openScrubber(unclean bool) {
	if n.folder == nil {
		return
	}
	delay := min(scrubDelay, time.Duration(n.opt.Settings.Scrub.Every))
	if unclean {
		delay = 0
	}
	n.scrubber = backbone.NewScrubber(backbone.ScrubOptions{
		Shard: n.shard, Others: n.checkpoints.Scrub, Size: func() int64 { s := n.checkpoints.Stats(); return s.Disk + s.CopyDisk },
		Rate: int64(n.opt.Settings.Scrub.Rate), Every: time.Duration(n.opt.Settings.Scrub.Every), Delay: delay,
		Clock: n.opt.Clock, Log: n.opt.Logger, Found: n.foundDamage,
		Passed: func(damage int) {
			if damage == 0 {
				n.restore("scrub")
			}
		},
	})
	m := n.metrics
	m.Gauge("laaster_scrub_passes", "Passes over everything at rest that were finished since the start.", func() float64 { return float64(n.scrubber.Status().Passes) })
	m.Gauge("laaster_scrub_bytes", "Bytes at rest that were read and verified since the start.", func() float64 { return float64(n.scrubber.Status().Bytes) })
	m.Gauge("laaster_scrub_damage", "Places at rest that the newest finished pass found damaged.", func() float64 { return float64(len(n.scrubber.Status().Damage)) })
}

// foundDamage tells of damage at rest. What is in memory is whole, so the node serves on; a checkpoint written now has everything that damage in the log took.
func (n *Node) foundDamage(err error) {
	reason := err.Error()
	if d := (*backbone.Damage)(nil); errors.As(err, &d) {
		reason = fmt.Sprintf("the log is damaged (%s) at batches %d to %d: %s. The state in memory is whole and a checkpoint of it is written: nothing that is shown is lost. "+
			"Make a backup, stop, and see laaster repair --dry-run", d.Kind, d.From, d.To, d.Detail)
		n.wantCheckpoint()
	}
	n.degrade("scrub", reason)
}

// scrubLoop scrubs until the node leaves.
func (n *Node) scrubLoop(ctx context.Context) error {
	if n.scrubber == nil {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(n.leaving, stop)()
	return n.scrubber.Run(ctx)
}
