package oracle

import (
	"fmt"
	"runtime"
	"strings"

	"laaster/internal/change"
	"laaster/internal/flow"
	"laaster/internal/sql"
)

// again runs the history in other ways, which must all come to the same fingerprint: every stamp's steps in one batch, on one processor, and
// as an app that had less views at first.
func (r *caseRun) again() error {
	for _, v := range r.engine.Stats().Views {
		if strings.Contains(v.Stopped, "the limit is") {
			r.cover["too many rows"]++
			return nil
		}
		if v.Stopped != "" {
			return fmt.Errorf("%s stopped: %s", v.Name, v.Stopped)
		}
	}
	want := r.engine.Fingerprint()
	old := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(old)
	runtime.GOMAXPROCS(3 - min(old, 2))
	if err := r.begin(r.prog); err != nil {
		return err
	}
	batches, err := r.batches(r.steps)
	if err != nil {
		return err
	}
	for _, b := range batches {
		if err := r.apply(b.stamp, b.entries...); err != nil {
			return fmt.Errorf("in other batches: %w", err)
		}
	}
	if got := r.engine.Fingerprint(); got != want {
		return fmt.Errorf("the fingerprint depends on how the history is cut into batches")
	}
	return r.handOver()
}

// cut is a batch.
type cut struct {
	stamp   int64
	entries []change.Entry
}

// batches cuts steps into one batch for each stamp.
func (r *caseRun) batches(steps []step) ([]cut, error) {
	var out []cut
	for i := range steps {
		e, err := r.entry(&steps[i])
		if err != nil {
			return nil, err
		}
		if n := len(out); n > 0 && out[n-1].stamp == steps[i].stamp {
			out[n-1].entries = append(out[n-1].entries, e)
			continue
		}
		out = append(out, cut{steps[i].stamp, []change.Entry{e}})
	}
	return out, nil
}

// handOver begins with the first view alone and changes to all of them in the middle of the history.
func (r *caseRun) handOver() error {
	if len(r.views) < 2 || len(r.steps) < 4 {
		return nil
	}
	first, diags := sql.Compile("app.sql", []byte(r.app(r.views[:1])), nil)
	if first == nil {
		return fmt.Errorf("the first view alone is refused: %s", diags[0].Render())
	}
	catalog, err := sql.ParseCatalog(first.Catalog)
	if err != nil {
		return err
	}
	next, diags := sql.Compile("app.sql", []byte(r.app(r.views)), catalog)
	if next == nil {
		return fmt.Errorf("the app is refused beside its first view: %s", diags[0].Render())
	}
	if change, list := sql.Compare(catalog, next); change > sql.Compatible {
		r.cover["hand over of an app that does not fit"]++
		_ = list
		return nil
	}
	r.prog = first
	batches, err := r.batches(r.steps)
	if err != nil {
		return err
	}
	half := len(batches) / 2
	log := append([]cut{{batches[0].stamp - 1, []change.Entry{{Kind: change.EntryDefinition, Last: true, Body: first.Catalog}}}}, batches[:half]...)
	log = append(log, cut{log[len(log)-1].stamp, []change.Entry{{Kind: change.EntryDefinition, Last: true, Body: next.Catalog}}})
	running, err := r.play1(first, log)
	if err != nil {
		return err
	}
	var beside *flow.Engine
	if missing := flow.Missing(next, running); len(missing) > 0 {
		if beside, err = r.play1(flow.Restrict(next, missing), log); err != nil {
			return err
		}
	}
	taken, err := flow.Take(next, running, beside)
	if err != nil {
		return fmt.Errorf("take: %w", err)
	}
	fresh, err := r.play1(next, log)
	if err != nil {
		return err
	}
	if taken.Fingerprint() != fresh.Fingerprint() {
		return fmt.Errorf("the engine that was handed over has another fingerprint")
	}
	for i, b := range batches[half:] {
		for _, e := range []*flow.Engine{taken, fresh} {
			if _, err := r.feed(e, uint64(len(log)+1+i), b); err != nil {
				return fmt.Errorf("behind the hand over: %w", err)
			}
		}
		if taken.Fingerprint() != fresh.Fingerprint() {
			return fmt.Errorf("behind the hand over the fingerprint is another")
		}
	}
	r.cover["hand over"]++
	return nil
}

// play1 runs batches in a new engine.
func (r *caseRun) play1(p *flow.Program, log []cut) (*flow.Engine, error) {
	e, err := flow.New(p, flow.Options{})
	if err != nil {
		return nil, err
	}
	for i, b := range log {
		if _, err := r.feed(e, uint64(i+1), b); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// feed applies one batch.
func (r *caseRun) feed(e *flow.Engine, seq uint64, b cut) (*change.Epoch, error) {
	r.b.Reset()
	for i := range b.entries {
		if err := r.b.Add(&b.entries[i]); err != nil {
			return nil, err
		}
	}
	sealed := r.b.Seal(change.Header{Seq: seq, Stamp: b.stamp})
	batch := sealed.Clone()
	return e.Apply(&batch)
}
