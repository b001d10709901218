package oracle

import (
	"fmt"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/flow"
	"laaster/internal/kit/disk/simdisk"
	"laaster/internal/kit/run"
)

// restart goes on, now and then, with an engine that was loaded from a checkpoint of the one at hand, every other time without keeping anything in memory that
// is stored. It goes by numbers of the history, so that a shrunk case restarts too.
func (r *caseRun) restart(stamp int64) error {
	if (int(r.seq)*7+len(r.steps))%5 != 0 {
		return nil
	}
	if r.store == nil {
		var err error
		if r.store, err = checkpoint.Open(checkpoint.Options{Dir: "/checkpoints", Log: change.LogID{1}, Clock: run.System{}, FS: simdisk.New(1)}); err != nil {
			return err
		}
	}
	before := r.engine.Fingerprint()
	w, err := r.store.Begin(checkpoint.Header{Log: change.LogID{1}, Seq: r.seq, Stamp: stamp, Fingerprint: before, Plan: r.prog.PlanHash(), Catalog: r.prog.Catalog})
	if err != nil {
		return err
	}
	f := r.engine.Freeze(r.store.NewObject)
	if err = f.Write(w); err == nil {
		err = w.Commit()
	}
	if err != nil {
		return fmt.Errorf("a checkpoint: %w", err)
	}
	r.engine.Done(f, true)
	state, err := r.store.Load(r.store.List()[0], false)
	if err != nil {
		return fmt.Errorf("a checkpoint: %w", err)
	}
	e, err := flow.Load(r.prog, flow.Options{}, state)
	if err != nil {
		return fmt.Errorf("a checkpoint: %w", err)
	}
	if e.Fingerprint() != before {
		return fmt.Errorf("the engine that was loaded has another fingerprint")
	}
	if r.engine = e; r.seq%2 == 0 {
		e.Trim(0)
	}
	if r.gen != nil { // nobody counts for TestFunctions
		r.cover["restart"]++
	}
	return nil
}

// forget ends the checkpoints of an engine that is not gone on with.
func (r *caseRun) forget() {
	if r.store != nil {
		_ = r.store.Close()
		r.store = nil
	}
}
