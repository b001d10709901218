package node

import (
	"fmt"

	"laaster/internal/change"
	"laaster/internal/flow"
)

// canary compares the state of a replay with the one that ran before. While there is traffic, the engine's fingerprint is taken at the first
// batch of each logged second and written into the log a little later; which batches these are follows from their stamps, so a replay takes
// its own at the same ones. While a view stands still at a limit nothing is compared: with other limits it would not. The engine loop's.
type canary struct {
	stamp  int64    // of the last batch
	taken  [8]taken // the newest, in a ring
	next   int
	agreed uint64 // comparisons so far
}

type taken struct {
	seq         uint64
	identity    [16]byte // see flow.Engine.Identity: fingerprints of another one say nothing
	fingerprint [16]byte
}

const canaryUs = 1_000_000

// passed is called after the engine applied b. At a start it compares what b says of the state; later it has the state written into the log.
func (c *canary) passed(n *Node, b *change.Batch) error {
	h := b.Header()
	begins := h.Stamp/canaryUs != c.stamp/canaryUs
	c.stamp = h.Stamp
	if n.writer != nil {
		if begins && h.Records > 0 && len(n.engine.Stopped()) == 0 {
			k := change.Canary{Log: h.Log, Seq: h.Seq, Plan: n.called.identityOf(n.engine), Fingerprint: n.engine.Fingerprint()}
			n.writer.Note(change.EntryCanary, k.Append(nil))
		}
		return nil
	}
	if begins && len(n.engine.Stopped()) == 0 {
		c.taken[c.next%len(c.taken)] = taken{h.Seq, n.called.identityOf(n.engine), n.engine.Fingerprint()}
		c.next++
	}
	it, e := b.Entries(), change.Entry{}
	for it.Next(&e) && e.Kind == change.EntryCanary { // they come first
		k, err := change.ParseCanary(e.Body)
		if err != nil {
			return fmt.Errorf("batch %d: %w", h.Seq, err)
		}
		if k.Log != h.Log { // of a log that was repaired
			continue
		}
		for _, t := range c.taken {
			if t.seq != k.Seq || t.seq == 0 || t.identity != k.Plan {
				continue
			}
			if t.fingerprint != k.Fingerprint {
				return fmt.Errorf("%w at batch %d: fingerprint %x, replayed %x", errDiverged, k.Seq, k.Fingerprint, t.fingerprint)
			}
			c.agreed++
		}
	}
	return nil
}

// called remembers what the engine and its program are called in the log and in checkpoints: both are computed over all views, and neither changes during
// the life of an engine or a program.
type called struct {
	engine   *flow.Engine
	identity [16]byte
	program  *flow.Program
	plan     [16]byte
}

// identityOf is flow.Engine.Identity.
func (s *called) identityOf(e *flow.Engine) [16]byte {
	if s.engine != e {
		s.engine, s.identity = e, e.Identity()
	}
	return s.identity
}

// planOf is flow.Program.PlanHash.
func (s *called) planOf(p *flow.Program) [16]byte {
	if s.program != p {
		s.program, s.plan = p, p.PlanHash()
	}
	return s.plan
}
