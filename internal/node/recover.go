package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/disk"
	"laaster/internal/sql"
	"laaster/internal/view"
)

// errDiverged says that the replay of the log gave another state than the one that ran before.
var errDiverged = errors.New("the state is not the one that ran before")

// recover brings engine and views to the head of the log, under the definition that app.sql is: from the newest checkpoint that can be
// used and the log behind it, else from the whole log.
func (n *Node) recover(ctx context.Context) (err error) {
	defer func() {
		if damage := caught(recover()); damage != nil { // of a page that was not needed before
			n.mistrustCheckpoints(damage)
			err = unreadable(damage)
		}
	}()
	if n.checkpoints != nil {
		for _, info := range n.checkpoints.List() {
			if info.Copy && n.usable(&info) == nil {
				n.kept.copied.Store(info.Header.Seq)
				n.kept.copyTried = true
			}
		}
		for _, info := range n.checkpoints.List() {
			err := n.resume(ctx, info)
			if err == nil {
				n.trustCheckpoints()
				return n.adoptApp(ctx)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if damage := (*backbone.Damage)(nil); errors.As(err, &damage) { // of the log: another checkpoint reads it too
				return fmt.Errorf("replay: %w", err)
			}
			n.fellBack(info, err)
		}
	}
	n.startOver()
	if first := n.shard.First(); first > 1 {
		return n.recoverTables(ctx, first)
	}
	if err := n.define(ctx); err != nil {
		return err
	}
	n.trustCheckpoints() // none is used
	return n.replay(ctx)
}

// startOver forgets what a start from a checkpoint that failed has left.
func (n *Node) startOver() {
	select {
	case <-n.broken: // of rows that are not used: the node would end as soon as it serves, and each start after it
	default:
	}
	n.next.Store(nil)
	n.last, n.complete, n.from = nil, nil, checkpoint.Info{}
}

// caught returns why a page of a checkpoint could not be read, which is what a panic with an error is about: a *checkpoint.Damage, or one of reading. It is nil when
// there was none; any other panic goes on.
func caught(p any) error {
	if p == nil {
		return nil
	}
	err, ok := p.(error)
	if !ok || errors.As(err, new(runtime.Error)) {
		panic(p)
	}
	return err
}

func unreadable(why error) error {
	return fmt.Errorf("state that is only in a checkpoint cannot be read: %w\n  hint: start again: the second copy is taken, or the log replayed", why)
}

// suspectFile says that the process before this one met a damaged page of a checkpoint while it ran.
const suspectFile = "SUSPECT"

// suspect reports whether every page of a checkpoint has to be verified before it is used: else a start could go on again and again from
// one that has a damaged page where nobody looks at first.
func (n *Node) suspect() bool {
	if n.folder == nil { // it looks at the past, where nobody could note it
		return true
	}
	_, err := os.Stat(filepath.Join(n.folder.Path(), suspectFile))
	return err == nil
}

// mistrustCheckpoints has the next start verify them, as well as the disk lets it.
func (n *Node) mistrustCheckpoints(why error) {
	if n.folder == nil {
		return
	}
	if err := disk.Replace(filepath.Join(n.folder.Path(), suspectFile), []byte(why.Error()+"\n"), 0o600); err != nil {
		n.opt.Logger.Error("the next start will not know that a checkpoint is damaged", "error", err.Error())
	}
}

// trustCheckpoints ends that.
func (n *Node) trustCheckpoints() {
	if n.folder == nil {
		return
	}
	if err := os.Remove(filepath.Join(n.folder.Path(), suspectFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		n.opt.Logger.Warn("the next start will verify every page of its checkpoint again", "error", err.Error())
	}
}

// fellBack says that a checkpoint could not be used.
func (n *Node) fellBack(info checkpoint.Info, err error) {
	n.opt.Logger.Warn("a checkpoint is not used, the start falls back to an older one or to the log", "position", n.position(info.Header.Seq), "copy", info.Copy, "reason", err.Error())
	n.degrade("checkpoint", fmt.Sprintf("the checkpoint of position %s was not used: %v", n.position(info.Header.Seq), err))
}

// usable says why a checkpoint does not belong to the log as it is, nil when it does.
func (n *Node) usable(info *checkpoint.Info) error {
	h := &info.Header
	switch {
	case info.Err != nil:
		return info.Err
	case h.Log != n.shard.ID() || h.Shard != n.shard.Number():
		return fmt.Errorf("it is of log %s", h.Log)
	case h.Seq > n.shard.Head():
		return fmt.Errorf("it is of batch %d and the log ends at %d", h.Seq, n.shard.Head())
	case h.Seq+1 < n.shard.First():
		return fmt.Errorf("it is of batch %d and the log begins at %d", h.Seq, n.shard.First())
	}
	return nil
}

// nodeState is the part "node" of a checkpoint.
type nodeState struct {
	Slots     []int             `json:"slots"`              // where the program's relations are in the store
	Relations int               `json:"relations"`          // that the store has places for
	Complete  map[string]uint64 `json:"complete,omitempty"` // see Node.complete
	Limits    [3]int64          `json:"limits"`             // at which views stopped: limits.view_state, state, join_rows
}

// resume makes the node what it was at a checkpoint and replays the log behind it.
func (n *Node) resume(ctx context.Context, info checkpoint.Info) (err error) {
	defer func() {
		if damage := caught(recover()); damage != nil {
			err = damage
		}
	}()
	n.startOver()
	if err := n.usable(&info); err != nil {
		return err
	}
	state, p, err := n.load(info)
	if err != nil {
		return err
	}
	h, program := state.Header(), p.program
	engine, err := flow.Load(program, n.engineOptions(), state)
	if err != nil {
		return err
	}
	store, err := view.Load(p.rels, n.viewOptions(), state)
	if err != nil {
		return err
	}
	n.program.Store(program)
	n.engine, n.store, n.slots, n.complete = engine, store, p.own.Slots, p.own.Complete
	n.use(program)
	if err := n.replayBehind(ctx, h.Seq, h.Digest, h.Stamp); err != nil {
		return err
	}
	n.from, n.stoppedAt = info, p.own.Limits
	n.kept.seq.Store(h.Seq)
	n.kept.at.Store(info.Made)
	return nil
}

// layOut returns the relations of the store by their places; those that the program has no more are without columns.
func (s *nodeState) layOut(p *flow.Program) ([]*expr.Relation, error) {
	if len(s.Slots) != len(p.Relations) || s.Relations < len(s.Slots) || s.Relations > 1<<20 {
		return nil, fmt.Errorf("its part of the node has %d places for %d relations", len(s.Slots), len(p.Relations))
	}
	rels := make([]*expr.Relation, s.Relations)
	for i, slot := range s.Slots {
		if slot < 0 || slot >= len(rels) || rels[slot] != nil {
			return nil, fmt.Errorf("its part of the node has place %d twice or outside", slot)
		}
		r := *p.Relations[i]
		r.ID = slot
		rels[slot] = &r
	}
	for i, r := range rels {
		if r == nil {
			rels[i] = &expr.Relation{ID: i, Layout: change.NewLayout(nil)}
		}
	}
	return rels, nil
}

// replayBehind applies the batches after seq, whose digest and stamp are known, as the engine loop would: a definition among them takes
// effect at its position.
func (n *Node) replayBehind(ctx context.Context, seq uint64, digest change.Digest, stamp int64) error {
	head := n.shard.Head()
	n.status.Lock()
	n.status.batches, n.status.replayed = head-seq, 0
	n.status.Unlock()
	p := newProgress(n.opt.Progress, n.opt.Clock, head-seq)
	n.canary = canary{stamp: stamp}
	n.applied.Store(seq)
	err := n.shard.ReplayAfter(ctx, seq, digest, stamp, func(b *change.Batch) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := n.successorOf(ctx, b); err != nil {
			return err
		}
		if _, err := n.step(b); err != nil {
			return err
		}
		if n.grew(len(b.Raw())); b.Header().Seq == head {
			last := b.Clone()
			n.last = &last
		}
		p.at(b.Header().Seq - seq)
		n.status.Lock()
		n.status.replayed = b.Header().Seq - seq
		n.status.Unlock()
		return nil
	})
	p.done()
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	n.remembered.Store(n.engine.SeenBytes())
	return nil
}

// step applies one batch that is read from the log, or handed over by the writer, and moves the app to its definition when it is one.
func (n *Node) step(b *change.Batch) (*change.Epoch, error) {
	seq := b.Header().Seq
	moved, err := n.succession(b)
	if err != nil {
		return nil, fmt.Errorf("batch %d: %w", seq, err)
	}
	epoch, err := n.engine.Apply(b)
	if err != nil {
		return nil, fmt.Errorf("batch %d: %w", seq, err)
	}
	n.tellStopped(epoch)
	view.Translate(epoch, n.slots)
	n.store.Apply(epoch)
	if moved != nil {
		n.settle(moved)
	}
	n.applied.Store(seq)
	if err := n.audited(b); err != nil {
		return nil, err
	}
	return epoch, n.canary.passed(n, b)
}

// successorOf prepares for a definition that a batch of the log brings, at a start.
func (n *Node) successorOf(ctx context.Context, b *change.Batch) error {
	doc := defines(b)
	if doc == nil || string(doc) == string(n.program.Load().Catalog) {
		return nil
	}
	program, err := n.compileCatalog(doc)
	if err != nil {
		return fmt.Errorf("the definition of batch %d: %w", b.Header().Seq, err)
	}
	return n.buildBeside(ctx, program, b.Header().Seq-1)
}

// buildBeside builds what program has and the running app has not, up to batch last, for the definition that comes next. At a start
// nobody else is there.
func (n *Node) buildBeside(ctx context.Context, program *flow.Program, last uint64) error {
	d := &deployment{program: program, inEffect: make(chan struct{})}
	if err := n.prepare(d, func(f func()) error { f(); return nil }); err != nil {
		return err
	}
	if err := n.replayTo(ctx, d, last, nil); err != nil {
		return err
	}
	n.next.Store(d)
	return nil
}

// stopLimits returns the limits at which views stop.
func (n *Node) stopLimits() [3]int64 {
	l := &n.opt.Settings.Limits
	return [3]int64{int64(l.ViewState), int64(l.State), int64(l.JoinRows)}
}

// settleLate appends empty batches until the definition at the end of the log is in effect: it waits for rows that are due, which leave in steps.
func (n *Node) settleLate(ctx context.Context) error {
	for n.next.Load() != nil {
		var empty change.Builder
		b, err := n.shard.Append(ctx, &empty)
		if err != nil {
			return fmt.Errorf("append a tick: %w", err)
		}
		last := b.Clone()
		n.last = &last
		if _, err := n.step(&last); err != nil {
			return err
		}
	}
	return nil
}

// adoptApp makes app.sql the app when it is another one than what runs at the head of the log: as a deployment would, before anybody is served.
func (n *Node) adoptApp(ctx context.Context) error {
	if err := n.settleLate(ctx); err != nil {
		return err
	}
	running := n.program.Load()
	prev, err := sql.ParseCatalog(running.Catalog)
	if err != nil {
		return fmt.Errorf("the definition in the log: %w", err)
	}
	file, src, err := readApp(n.opt.Dir)
	if err != nil {
		return err
	}
	program, found := sql.CompileFiles(file, src, prev, AppFiles(n.opt.Dir))
	if program == nil {
		return &AppError{found}
	}
	verdict, differences := sql.CompareHeld(prev, program, n.heldVersions(prev))
	switch {
	case verdict == sql.Same && len(n.engine.Stopped()) > 0 && n.stopLimits() != n.stoppedAt:
		n.opt.Logger.Info("limits have changed: the views that stopped at them are built anew", "views", len(n.engine.Stopped()))
	case verdict == sql.Same:
		return nil
	case verdict == sql.Refused && sql.AtStart(differences):
		n.warnReaders(differences)
	case verdict == sql.Refused:
		n.nameBroken(differences, running)
		return refusedChange(differences)
	default:
		n.opt.Logger.Info("app.sql changed: the new definition is appended and its views are built by replay", "changes", len(differences))
	}
	if err := n.buildBeside(ctx, program, n.shard.Head()); err != nil {
		return fmt.Errorf("the new app.sql: %w", err)
	}
	b, err := n.appendDefinition(ctx, program.Catalog)
	if err != nil {
		return err
	}
	n.last = &b
	_, err = n.step(&b)
	return err
}

// recoverTables starts over a log that no longer begins at its beginning when no checkpoint can be continued: the rows of the tables that
// keep theirs come from a checkpoint, the views are computed from them and from the log behind it.
func (n *Node) recoverTables(ctx context.Context, first uint64) error {
	list := n.checkpoints.List()
	for i := len(list) - 1; i >= 0; i-- { // the oldest: the more of the log is behind it
		info := list[i]
		if n.usable(&info) != nil {
			continue
		}
		if err := n.rebuild(ctx, info); err != nil {
			n.fellBack(info, err)
			continue
		}
		n.trustCheckpoints()
		return n.adoptApp(ctx)
	}
	return fmt.Errorf("the log begins at batch %d, and no checkpoint of it or later can be used\n  hint: laaster repair says what there is; or restore a backup", first)
}

// load opens a checkpoint and reads what it is of; its pages are read later.
func (n *Node) load(info checkpoint.Info) (*checkpoint.State, *past, error) {
	state, err := n.checkpoints.Load(info, n.suspect())
	if err != nil {
		return nil, nil, err
	}
	p, err := n.readPast(state)
	return state, p, err
}

// rebuild computes every view from the tables of a checkpoint and the log behind it.
func (n *Node) rebuild(ctx context.Context, info checkpoint.Info) (err error) {
	defer func() {
		if damage := caught(recover()); damage != nil {
			err = damage
		}
	}()
	n.startOver()
	state, p, err := n.load(info)
	if err != nil {
		return err
	}
	h, program := state.Header(), p.program
	engine, epoch, err := p.tables(program, n.engineOptions())
	if err != nil {
		return err
	}
	n.program.Store(program)
	n.use(program)
	n.engine, n.store = engine, view.New(program.Relations, n.viewOptions())
	n.slots = identity(len(program.Relations))
	n.store.Apply(epoch)
	n.store.Start(h.Seq, h.Stamp)
	n.complete = map[string]uint64{}
	for i, rel := range program.Relations {
		n.store.SetBirth(i, h.Seq)
		if partial(program, program, i) {
			n.complete[rel.Name] = h.Seq + 1
		}
	}
	n.from = info
	return n.replayBehind(ctx, h.Seq, h.Digest, h.Stamp)
}

func identity(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// partial reports whether a view of p, or something that it reads, is over a table whose rows are not kept now, or were not under the program was: built
// anew from a log that is trimmed it lacks what was before.
func partial(p, was *flow.Program, relation int) bool {
	kept := map[uint32]bool{}
	for _, rel := range was.Relations {
		if rel.Table != nil {
			kept[rel.Table.Catalog] = rel.Table.Table.Kept
		}
	}
	only := flow.Restrict(p, []int{relation}).Only
	for i, rel := range p.Relations {
		if !only[i] || rel.Table == nil {
			continue
		}
		if before, there := kept[rel.Table.Catalog]; there && !(before && rel.Table.Table.Kept) { // a table that is new has no past
			return true
		}
	}
	return false
}

// begin makes the engine of what a deployment lacks: from the start of the log, or, when that is gone, from the tables of the oldest checkpoint.
func (n *Node) begin(d *deployment) error {
	only := flow.Restrict(d.program, d.missing)
	if n.shard.First() <= 1 {
		var err error
		d.engine, err = flow.New(only, n.engineOptions())
		return err
	}
	list := n.checkpoints.List()
	for i := len(list) - 1; i >= 0; i-- {
		if n.usable(&list[i]) != nil {
			continue
		}
		state, err := n.checkpoints.Peek(list[i])
		if err != nil {
			n.opt.Logger.Warn("a checkpoint cannot be used to build a view", "position", n.position(list[i].Header.Seq), "reason", err.Error())
			continue
		}
		p, err := n.readPast(state)
		if err != nil {
			return err
		}
		engine, epoch, err := p.tables(only, n.engineOptions())
		if err != nil {
			return err
		}
		h := state.Header()
		d.engine, d.at = engine, h.Seq
		d.store.Apply(epoch)
		d.complete = map[string]uint64{}
		for _, r := range d.missing {
			if partial(d.program, p.program, r) {
				d.complete[d.program.Relations[r].Name] = h.Seq + 1
			}
		}
		return nil
	}
	return errors.New("the beginning of the log is gone, and no checkpoint can be used to build the views from")
}
