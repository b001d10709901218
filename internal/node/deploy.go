package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql"
	"laaster/internal/view"
)

// Plan is what a new app.sql would do to the running app.
type Plan struct {
	Verdict     string           `json:"verdict"` // same, compatible or refused
	Differences []sql.Difference `json:"differences"`
	Views       []ViewChange     `json:"views"`                // those that are not left as they are
	Findings    []sql.Diagnostic `json:"findings"`             // of the text: errors, or warnings only
	Position    string           `json:"position,omitempty"`   // at which it was applied, once it was
	BuiltMS     int64            `json:"built_ms,omitempty"`   // how long new and changed views took to build
	Replayed    uint64           `json:"replayed,omitempty"`   // batches that they were built from
	Subscribers int              `json:"subscribers,omitzero"` // subscriptions that get new rows or an error
}

// ViewChange is what becomes of one view or readable table.
type ViewChange struct {
	Name   string `json:"name"`
	Table  bool   `json:"table,omitempty"`
	Change string `json:"change"` // new, changed or gone
	// CompleteFrom is the position from which on the view has the rows of tables that do not keep theirs: the log before is trimmed. Empty: from the beginning.
	CompleteFrom string `json:"complete_from,omitempty"`
	Subscribers  int    `json:"subscribers"` // live subscriptions that it concerns
}

// The verdicts of a Plan.
const (
	verdictSame       = "same"
	verdictCompatible = "compatible"
	verdictRefused    = "refused"
)

// DeployProgress is how far the building of views is.
type DeployProgress struct {
	Batches uint64 `json:"batches"` // of Of
	Of      uint64 `json:"of"`
}

// errDeploying refuses a second deployment while one is under way.
var errDeploying = errors.New("another deployment is under way: try again when it has ended")

// deployment is one change of the app on its way to the engine.
type deployment struct {
	program  *flow.Program
	missing  []int             // relations of program that the running engine does not have
	engine   *flow.Engine      // of these, beside the running one, with state of its own; nil when nothing is missing
	store    *view.Store       // its views
	at       uint64            // what both have applied
	complete map[string]uint64 // see Node.complete: of what is built here
	late     bool              // its definition is in the log, and the engines could not be joined yet; the engine loop's
	gone     []int             // places in the store that nobody is given any more
	inEffect chan struct{}     // closed when it is the running app
}

// Plan says what src would do to the running app, without doing it. The files that it names are those of the app folder.
func (n *Node) Plan(file string, src []byte) (*Plan, error) { return n.PlanSource(n.source(file, src)) }

// PlanSource is Plan with files of its own.
func (n *Node) PlanSource(src Source) (*Plan, error) {
	p, _, err := n.plan(src)
	return p, err
}

func (n *Node) source(file string, src []byte) Source { return Source{file, src, AppFiles(n.opt.Dir)} }

func (n *Node) plan(src Source) (*Plan, *flow.Program, error) {
	running := n.program.Load()
	prev, err := sql.ParseCatalog(running.Catalog)
	if err != nil {
		return nil, nil, err
	}
	program, found := sql.CompileFiles(src.File, src.SQL, prev, src.Files)
	p := &Plan{Findings: append([]sql.Diagnostic{}, found...), Differences: []sql.Difference{}, Views: []ViewChange{}, Verdict: verdictRefused}
	if program == nil {
		return p, nil, nil
	}
	hold := n.holdLog()
	defer hold()
	verdict, differences := sql.CompareHeld(prev, program, n.heldVersions(prev))
	n.nameBroken(differences, running)
	p.Differences = append(p.Differences, differences...)
	p.Verdict = verdictOf(verdict)
	if p.Views, err = n.viewChanges(running, program); err != nil {
		return nil, nil, err
	}
	for _, v := range p.Views {
		p.Subscribers += v.Subscribers
	}
	return p, program, nil
}

// viewChanges lists what differs between the relations of two programs.
func (n *Node) viewChanges(from, to *flow.Program) ([]ViewChange, error) {
	was, err := versions(from)
	if err != nil {
		return nil, err
	}
	is, err := versions(to)
	if err != nil {
		return nil, err
	}
	out := []ViewChange{}
	for _, r := range to.Relations {
		switch old, there := was[r.Name]; {
		case is[r.Name] == "": // a system relation
		case r.Table != nil && !readable(to.Definition, r.Name): // it concerns no reader
		case !there:
			out = append(out, ViewChange{Name: r.Name, Table: r.Table != nil, Change: "new", CompleteFrom: n.completeFrom(to, r.ID)})
		case old != is[r.Name]:
			out = append(out, ViewChange{r.Name, r.Table != nil, "changed", n.completeFrom(to, r.ID), n.hub.Subscriptions(r.Name)})
		}
	}
	for _, r := range from.Relations {
		if is[r.Name] == "" && was[r.Name] != "" {
			out = append(out, ViewChange{r.Name, r.Table != nil, "gone", "", n.hub.Subscriptions(r.Name)})
		}
	}
	return out, nil
}

// completeFrom returns from which position on a relation of p would be complete if it were built now; empty: from the beginning.
func (n *Node) completeFrom(p *flow.Program, relation int) string {
	if n.shard.First() <= 1 || p.Relations[relation].Table != nil || !partial(p, n.program.Load(), relation) {
		return ""
	}
	return n.position(n.oldestKept() + 1)
}

// readable reports whether anybody may read a relation, or a policy does.
func readable(def *app.Definition, name string) bool {
	return def.Readable(name)
}

// versions returns the hash of each relation of a program, system relations left out.
func versions(p *flow.Program) (map[string]string, error) { return versionsBy(definition, p) }

func versionsBy(list func(doc []byte) ([]flow.RelationVersion, error), p *flow.Program) (map[string]string, error) {
	all, err := list(p.Catalog)
	if err != nil {
		return nil, err
	}
	m := make(map[string]string, len(all))
	for _, v := range all {
		m[v.Name] = v.Hash
	}
	return m, nil
}

// Deploy makes src the running app. New and changed views are built beside the running ones from the log; when they have caught up, the
// definition is appended to the log, and everything changes at its position. Until then ctx's end, the node's, or an error leaves
// everything as it was. A plan with a refused verdict has changed nothing. progress, which may be nil, is called on another goroutine, and
// not after Deploy returned.
func (n *Node) Deploy(ctx context.Context, file string, src []byte, progress func(DeployProgress)) (*Plan, error) {
	return n.launch(ctx, n.source(file, src), false, progress)
}

// ForceDeploy is Deploy, and does what is refused for the sake of readers alone: views may go.
func (n *Node) ForceDeploy(ctx context.Context, file string, src []byte, progress func(DeployProgress)) (*Plan, error) {
	return n.launch(ctx, n.source(file, src), true, progress)
}

// launch deploys on a goroutine that the node waits for.
func (n *Node) launch(ctx context.Context, src Source, force bool, progress func(DeployProgress)) (*Plan, error) {
	if !n.deploying.CompareAndSwap(false, true) {
		return nil, errDeploying
	}
	defer n.deploying.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.leaving, cancel)()
	type result struct {
		plan *Plan
		err  error
	}
	done := make(chan result, 1)
	n.status.Lock()
	state := n.status.state
	if state == stateReady { // then stop waits for the goroutine
		n.group.Go("deploy", func(context.Context) error {
			var r result
			defer func() {
				if p := recover(); p != nil { // a view of the new app, not the running one
					n.opt.Logger.Error("panic in a deployment", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
					r = result{nil, fmt.Errorf("the new app met an error of ours, and nothing has changed: %v", p)}
				}
				done <- r
			}()
			r.plan, r.err = n.deploy(ctx, src, force, progress)
			return nil
		})
	}
	n.status.Unlock()
	if state != stateReady {
		return nil, errors.New("the server is " + state)
	}
	r := <-done
	return r.plan, r.err
}

func (n *Node) deploy(ctx context.Context, src Source, force bool, progress func(DeployProgress)) (*Plan, error) {
	p, program, err := n.plan(src)
	if err == nil && force && program != nil && p.Verdict == verdictRefused && sql.Forcible(p.Differences) {
		p.Verdict = verdictCompatible
	}
	if err != nil || p.Verdict != verdictCompatible {
		return p, err
	}
	began := n.opt.Clock.Now()
	d := &deployment{program: program, inEffect: make(chan struct{})}
	if err := n.door.Fits(program.Relations); err != nil {
		return nil, err
	}
	hold := n.holdLog() // the log is not trimmed while it is read
	defer hold()
	if err := n.prepare(d, n.betweenBatches); err != nil {
		return nil, err
	}
	if err := n.catchUp(ctx, d, progress); err != nil {
		return nil, err
	}
	ended, problem := n.privileged(ctx, "deploy", src.File, map[string]any{"changes": len(p.Differences), "force": force})
	if problem != nil {
		return nil, errors.New(problem.Detail)
	}
	seq, err := n.handOver(ctx, d)
	if ended(err); err != nil {
		return nil, err
	}
	n.wantCheckpoint() // else a start would build the views again
	p.Position, p.Replayed, p.BuiltMS = n.position(seq), d.at, n.opt.Clock.Now().Sub(began).Milliseconds()
	n.opt.Logger.Info("the app has changed", "position", p.Position, "changes", len(p.Differences), "built_ms", p.BuiltMS)
	return p, nil
}

// prepare finds out what has to be built and tries what must not fail once the definition is in the log. between calls a function when
// the engine is between two batches.
func (n *Node) prepare(d *deployment, between func(func()) error) error {
	if _, err := flow.New(d.program, n.engineOptions()); err != nil {
		return err
	}
	was, err := versions(n.program.Load())
	if err != nil {
		return err
	}
	is, err := versions(d.program)
	if err != nil {
		return err
	}
	if err := between(func() { d.missing = flow.Missing(d.program, n.engine) }); err != nil {
		return err
	}
	for i, r := range d.program.Relations { // the engine converts rows of tables that got columns; their readers need them too
		old, there := was[r.Name]
		if r.Table != nil && there && old != is[r.Name] && readable(d.program.Definition, r.Name) && !slices.Contains(d.missing, i) {
			d.missing = append(d.missing, i)
		}
	}
	if n.shard.First() > 1 { // see begin
		d.missing = flow.Dependents(d.program, d.missing)
	}
	if len(d.missing) == 0 {
		return nil
	}
	d.store = view.New(d.program.Relations, view.Options{RingBytes: 1})
	return n.begin(d)
}

// near is how many batches the views that are built may lag behind when they take over: the running ones wait for the rest.
const near = 4

// backfillShare is how long the building of views rests after each span of work, as a multiple of the work: it takes a quarter of one
// processor. Work that lasts longer because the machine is busy makes for a longer rest.
const backfillShare = 3.0

// catchUp builds the views of d from the log until they are near its head. Each pass over what was written during the one before rests
// half as long, so that it comes to an end as long as it is faster than the writers at all.
func (n *Node) catchUp(ctx context.Context, d *deployment, progress func(DeployProgress)) error {
	for share := backfillShare; d.engine != nil; share /= 2 {
		head := n.shard.Head()
		if head < d.at+near {
			break
		}
		if err := n.replayTo(ctx, d, head, &pace{n: n, rest: share, last: head, began: n.opt.Clock.Now(), progress: progress}); err != nil {
			return err
		}
	}
	return nil
}

// pace slows a replay down beside live work, and tells how far it is.
type pace struct {
	n        *Node
	rest     float64 // as a multiple of the work
	last     uint64
	began    time.Time
	progress func(DeployProgress) // nil: nobody asks
}

// slice is how long a replay works before it rests.
const slice = 2 * time.Millisecond

// at is called after each batch.
func (p *pace) at(ctx context.Context, seq uint64) error {
	worked := p.n.opt.Clock.Now().Sub(p.began)
	if worked < slice {
		return nil
	}
	if p.progress != nil {
		p.progress(DeployProgress{seq, p.last})
	}
	select {
	case <-p.n.opt.Clock.After(time.Duration(p.rest * float64(worked))):
	case <-ctx.Done():
		return ctx.Err()
	}
	p.began = p.n.opt.Clock.Now()
	return nil
}

// errEnough ends a replay.
var errEnough = errors.New("far enough")

// replayTo applies the batches up to last, at a pace or, without one, as fast as it can.
func (n *Node) replayTo(ctx context.Context, d *deployment, last uint64, p *pace) error {
	if d.engine == nil || d.at >= last {
		return nil
	}
	err := n.shard.Replay(ctx, d.at+1, func(b *change.Batch) error {
		epoch, err := d.engine.Apply(b)
		if err != nil {
			return err
		}
		d.store.Apply(epoch)
		switch d.at = b.Header().Seq; {
		case d.at == last:
			return errEnough
		case p == nil:
			return ctx.Err()
		}
		return p.at(ctx, d.at)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// handOver appends the definition, before whose batch the engine loop takes d over, and returns its sequence once it is in effect.
func (n *Node) handOver(ctx context.Context, d *deployment) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n.next.Store(d) // from here on d is the engine loop's
	seq, problem := n.writer.Define(ctx, d.program.Catalog)
	if problem != nil {
		n.next.CompareAndSwap(d, nil)
		return 0, fmt.Errorf("the definition was not appended: %s", problem.Detail)
	}
	select {
	case <-d.inEffect:
		return seq, nil
	case <-n.leaving.Done():
	case <-n.group.Context().Done():
	}
	return 0, errors.New("the definition is in the log, and the server ended before it took effect: it does at the next start")
}

// defines returns the document of a batch that is a definition, nil for others.
func defines(b *change.Batch) []byte {
	it, e := b.Entries(), change.Entry{}
	if it.Next(&e) && e.Kind == change.EntryDefinition {
		return e.Body
	}
	return nil
}

// succession makes the deployment whose definition b is the running app, and returns it. The engine loop calls it before it applies a
// batch; settle ends what it begins.
func (n *Node) succession(b *change.Batch) (*deployment, error) {
	d := n.next.Load()
	switch doc := defines(b); {
	case doc == nil && (d == nil || !d.late):
		return nil, nil
	case doc != nil:
		if d == nil && string(doc) == string(n.program.Load().Catalog) { // said again: it changes nothing
			return nil, nil
		}
		if d == nil || string(doc) != string(d.program.Catalog) {
			return nil, errors.New("a definition that nobody here made")
		}
		if err := n.replayTo(context.Background(), d, b.Header().Seq-1, nil); err != nil {
			return nil, fmt.Errorf("the views of the new definition: %w", err)
		}
	}
	engine, err := flow.Take(d.program, n.engine, d.engine)
	if errors.Is(err, flow.ErrBehind) {
		// Rows that time has overtaken are still leaving, in steps. Until then both engines go on side by side, under the old app.
		d.late = true
		if d.engine == nil {
			return nil, nil
		}
		epoch, err := d.engine.Apply(b)
		if err == nil {
			d.store.Apply(epoch)
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return d, n.takeOver(d, engine, b.Header().Seq)
}

// takeOver makes engine and what d has built the running app from batch seq on.
func (n *Node) takeOver(d *deployment, engine *flow.Engine, seq uint64) error {
	added, err := n.succeed(d, seq)
	if err != nil {
		return err
	}
	for _, r := range n.store.Redefine(added) {
		n.slots[slices.Index(n.slots, -1)] = r.ID // in the order of the program, as added is
	}
	if n.door != nil { // else this is a start
		if err := n.door.Use(d.program.Relations); err != nil {
			return err
		}
	}
	if err := n.seeAnew(d, seq); err != nil {
		return err
	}
	n.engine = engine
	n.complete = d.completeFrom(n.complete)
	n.use(d.program)
	n.program.Store(d.program)
	if n.hub == nil {
		return nil
	}
	rels := n.store.Relations()
	visible := make([]*expr.Relation, 0, len(n.slots))
	for _, slot := range n.slots {
		visible = append(visible, rels[slot])
	}
	n.watch(d.program.Definition)
	if err := n.hub.UseChannels(d.program.Channels); err != nil {
		return err
	}
	n.hub.Redefine(visible, rulesOf(d.program))
	return nil
}

// seeAnew has those who come back to relations that stay as they are, and whose rules do not, get their rows.
func (n *Node) seeAnew(d *deployment, seq uint64) error {
	was, err := versionsBy(seenBy, n.program.Load())
	if err != nil {
		return err
	}
	is, err := versionsBy(seenBy, d.program)
	if err != nil {
		return err
	}
	for i, r := range d.program.Relations {
		if was[r.Name] != is[r.Name] {
			n.store.SetBirth(n.slots[i], seq)
		}
	}
	return nil
}

// completeFrom returns since when each view of the new app has its history, for those that lack some.
func (d *deployment) completeFrom(was map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for i, r := range d.program.Relations {
		from := was[r.Name]
		if slices.Contains(d.missing, i) {
			from = d.complete[r.Name]
		}
		if from != 0 {
			out[r.Name] = from
		}
	}
	return out
}

// settle moves those who follow the app live to what d, whose first batch is applied, has made of it.
func (n *Node) settle(d *deployment) {
	if n.hub != nil {
		n.hub.Settle()
	}
	n.store.Drop(d.gone)
	n.showStopped()
	n.next.CompareAndSwap(d, nil)
	close(d.inEffect)
}

// rulesOf returns who may read what under a definition, whatever follows it.
func rulesOf(program *flow.Program) *auth.Rules {
	rules := &auth.Rules{}
	rules.Use(program.Definition, program.Relations...)
	return rules
}

// sameRows reports whether a view that was computed anew has the rows that its readers see already: its query is the same, and it
// is the steps below that changed, such as when a table got columns that it does not read.
func (n *Node) sameRows(d *deployment, r *expr.Relation, was, is string) bool {
	if r.Table != nil || was != is || n.complete[r.Name] != 0 || d.complete[r.Name] != 0 {
		return false
	}
	for _, s := range n.engine.Stopped() {
		if n.program.Load().Relations[s.Relation].Name == r.Name {
			return false
		}
	}
	return true
}

// succeed lays out where the relations of d are in the store: those whose rows stay as they are keep their places, others get new ones
// (-1 until then), and the places of the rest are d.gone.
func (n *Node) succeed(d *deployment, at uint64) (added []view.Added, err error) {
	running := n.program.Load()
	was, err := versions(running)
	if err != nil {
		return nil, err
	}
	is, err := versions(d.program)
	if err != nil {
		return nil, err
	}
	places, byHash := map[string]int{}, map[string]int{}
	for i, r := range running.Relations {
		places[r.Name] = n.slots[i]
		if h := was[r.Name]; h != "" {
			byHash[h] = n.slots[i]
		}
	}
	free, rels := maps.Clone(places), n.store.Relations()
	slots := make([]int, len(d.program.Relations))
	for i, r := range d.program.Relations {
		place, there := places[r.Name]
		fresh := slices.Contains(d.missing, i) && !(there && n.sameRows(d, r, was[r.Name], is[r.Name]))
		if there && was[r.Name] == is[r.Name] && slices.Equal(rels[place].Order, r.Order) && !fresh {
			slots[i] = place
			delete(free, r.Name)
			continue
		}
		a := view.Added{Relation: r, Birth: at}
		if twin, same := byHash[is[r.Name]]; fresh {
			a.From, a.Index = d.store, i
		} else if same { // another name for what there is, or another order
			a.From, a.Index = n.store, twin
		}
		slots[i], added = -1, append(added, a)
	}
	for _, place := range free {
		d.gone = append(d.gone, place)
	}
	n.slots = slots
	return added, nil
}

// tellStopped tells the operator, and the readers, of views that passed a limit in this epoch.
func (n *Node) tellStopped(e *change.Epoch) {
	for _, s := range e.Stopped {
		rel := n.store.Relations()[n.slots[s.Relation]]
		n.opt.Logger.Error("a view has stopped: its rows stay as they are, the rest of the app goes on", "view", rel.Name, "reason", s.Reason, "stack", s.Stack)
		if n.hub != nil {
			n.hub.SetStale(rel, s.Reason)
		}
	}
}

// showStopped tells the readers of every view that has stopped.
func (n *Node) showStopped() {
	if n.hub == nil { // it is told when it is there
		return
	}
	for _, s := range n.engine.Stopped() {
		n.hub.SetStale(n.store.Relations()[n.slots[s.Relation]], s.Reason)
	}
}
