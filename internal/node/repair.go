package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"laaster/app"
	"laaster/internal/audit"
	"laaster/internal/backbone"
	"laaster/internal/backbone/jetstream"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
	"laaster/internal/kit/run"
	"laaster/internal/seal"
)

// RepairOptions says what is to be repaired.
type RepairOptions struct {
	Dir      string // the app folder, for the keys
	Settings app.Settings
	Rewrite  bool // make a new log also of one that is whole
	Clock    run.Clock
	Logger   *slog.Logger
	Progress func(text string) // told in words what is under way; nil: nobody
}

// Repair is what is wrong with the data folder of a stopped server and what can be done. It holds the folder's lock until Close.
type Repair struct {
	opt         RepairOptions
	folder      *backbone.Folder
	keys        *seal.Ring
	survey      *backbone.Survey
	checkpoints *checkpoint.Store
	best        *checkpoint.Info // the newest one that is whole and of this log; nil: none
	useless     []string         // what to say about checkpoints that cannot be used
	aside       bool             // some of them have to go
	useful      int              // checkpoints that are whole
	copies      string           // folder of the second copies
	lineage     *backbone.Lineage
	badLineage  error
	unsound     error  // why the store cannot be opened as it is
	first       uint64 // where the new log begins
}

// replaced lists what a repair that makes a new log moves away.
func replaced() []string {
	return []string{"store", "highwater-0", "base-0", "lineage", "checkpoints", "copy", "UNSYNCED"}
}

// repairFolder is where a repaired log is made, in the data folder.
const repairFolder = "repair"

// OpenRepair reads everything in the data folder of a stopped server and finds out what is wrong. It changes nothing.
func OpenRepair(ctx context.Context, o RepairOptions) (_ *Repair, err error) {
	if o.Settings.Backbone != "embedded" {
		return nil, fmt.Errorf("backbone is %s: only the log of an embedded server can be repaired, as its files are here", o.Settings.Backbone)
	}
	if _, err := os.Stat(filepath.Join(o.Settings.Data, "FORMAT")); err != nil {
		return nil, fmt.Errorf("%s is not a data folder (%w)\n  hint: --data names it", o.Settings.Data, err)
	}
	r := &Repair{opt: o}
	if r.folder, err = backbone.OpenFolder(o.Settings.Data); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.keys, err = loadKeys(o.Dir, o.Settings.Encryption.Keys); err != nil {
		return nil, err
	}
	if r.lineage, r.badLineage = backbone.ReadLineage(r.folder.Path()); errors.As(r.badLineage, new(*change.NewerError)) {
		return nil, r.badLineage
	}
	if err := r.openCheckpoints(); err != nil {
		return nil, err
	}
	r.tell("reading the log")
	var ask []uint64
	list := r.checkpoints.List()
	for i := range list {
		ask = append(ask, list[i].Header.Seq)
	}
	r.survey, err = backbone.Look(ctx, backbone.SurveyOptions{Dir: r.folder.Path(), Keys: r.keys, Ask: ask,
		Files: func(fn func([]byte, bool) (int, error)) error { return jetstream.Salvage(r.folder.Store(), 0, fn) }})
	if err != nil {
		return nil, err
	}
	if r.unsound = jetstream.Sound(r.folder.Store(), 0, r.survey.Marked, r.survey.First); r.unsound != nil && !errors.As(r.unsound, new(*backbone.Damage)) {
		return nil, r.unsound
	}
	r.tell("reading the checkpoints")
	for i := range list {
		r.judge(&list[i])
	}
	return r, r.settle()
}

func (r *Repair) tell(text string) {
	if r.opt.Progress != nil {
		r.opt.Progress(text)
	}
}

func (r *Repair) openCheckpoints() (err error) {
	dir := r.folder.Path()
	if r.copies = r.opt.Settings.Checkpoint.Copy; r.copies == "" {
		r.copies = filepath.Join(dir, "copy")
	}
	r.checkpoints, err = checkpoint.Open(checkpoint.Options{Dir: filepath.Join(dir, "checkpoints"), Copy: r.copies, Keys: r.keys, Clock: r.opt.Clock,
		Slog: r.opt.Logger, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("open the checkpoints: %w", err)
	}
	return nil
}

// judge finds out whether a checkpoint is whole and of this log.
func (r *Repair) judge(i *checkpoint.Info) {
	err := i.Err
	switch digest, known := r.survey.Digests[i.Header.Seq]; {
	case err != nil:
	case r.survey.Log != (change.LogID{}) && i.Header.Log != r.survey.Log:
		err = fmt.Errorf("it is of log %s", i.Header.Log)
	case known && digest != i.Header.Digest:
		err = fmt.Errorf("the log has another batch at its position %d", i.Header.Seq)
	default:
		_, err = r.checkpoints.Load(*i, true)
	}
	if err != nil {
		r.useless = append(r.useless, fmt.Sprintf("%s: %v", i.File, err))
		readable := errors.As(err, new(*change.NewerError)) || errors.As(err, new(*seal.UnknownKeyError)) // by another version, with another key
		r.aside = r.aside || !readable && filepath.Dir(filepath.Dir(i.File)) == filepath.Clean(r.folder.Path())
		return
	}
	r.useful++
	r.survey.Log = i.Header.Log // known, unless nothing of the log is left
	r.survey.Extend(i.Header.Seq)
	if r.best == nil || i.Header.Seq > r.best.Header.Seq {
		r.best = i
	}
}

// settle decides where the new log begins.
func (r *Repair) settle() error {
	s := r.survey
	r.first = s.First
	if r.best != nil {
		seq := r.best.Header.Seq
		if s.Found > s.First && s.Found <= seq+1 && !s.Trimmed { // without the base: it was trimmed, the checkpoint has what was before
			r.first = s.Found
		}
		for _, l := range s.Lost {
			if l.From <= seq {
				r.first = max(r.first, min(l.To, seq)+1)
			}
		}
	}
	switch {
	case s.Batches == 0 && r.best == nil:
		return fmt.Errorf("%s: neither a batch nor a checkpoint can be read: there is nothing to repair from\n  hint: restore a backup (laaster restore)",
			r.folder.Path())
	case r.first > 1 && (r.best == nil || r.best.Header.Seq+1 < r.first):
		return fmt.Errorf("%s: the log begins at batch %d, and no checkpoint that is whole has what was before\n  hint: restore a backup (laaster restore)",
			r.folder.Path(), r.first)
	}
	return nil
}

// Needed reports whether there is something to repair.
func (r *Repair) Needed() bool {
	return r.rewrites() || r.badLineage != nil || r.aside
}

// rewrites reports whether a new log has to be made: else it is enough to put files aside.
func (r *Repair) rewrites() bool {
	s := r.survey
	return r.opt.Rewrite || len(s.Lost) > 0 || len(s.Notes) > 0 || r.unsound != nil || s.Mark != nil || s.NoMark || s.Base != nil
}

// lost splits what the log lost into what a checkpoint has and what nothing has.
func (r *Repair) lost() (kept, gone uint64, all []backbone.Range) {
	for _, l := range r.survey.Lost {
		all = append(all, l.Range)
		n := l.To - l.From + 1
		if r.best != nil && l.From <= r.best.Header.Seq {
			k := min(l.To, r.best.Header.Seq) - l.From + 1
			kept, n = kept+k, n-k
		}
		gone += n
	}
	return kept, gone, all
}

// Text says in words what is wrong and what Do would do.
func (r *Repair) Text() string {
	var b strings.Builder
	s := r.survey
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("Data folder %s, log %s", r.folder.Path(), s.Log)
	say("  batches %d to %d were written; %d of them are whole (%s)", s.First, s.Last, s.Batches, size(s.Bytes))
	if r.best != nil {
		say("  checkpoints that are whole: %d, the newest of batch %d (%s)", r.useful, r.best.Header.Seq, at(r.best.Header.Stamp))
	} else {
		say("  checkpoints that are whole: none")
	}
	if !r.Needed() {
		say("Nothing is damaged.")
		return b.String()
	}
	say("What is wrong:")
	if len(s.Lost) > 0 {
		r.textLost(say)
	}
	for _, err := range []error{s.Mark, s.Base, r.badLineage} {
		if err != nil {
			say("  %v", err)
		}
	}
	if s.NoMark {
		say("  the high-water file is missing: whether the log is shorter than it was cannot be told")
	}
	if d := (*backbone.Damage)(nil); errors.As(r.unsound, &d) && len(s.Lost) == 0 {
		say("  the store cannot be opened as it is, though every batch in it is whole: %s", d.Detail)
	}
	for _, n := range s.Notes {
		say("  %s", n)
	}
	for _, u := range r.useless {
		say("  a checkpoint cannot be used: %s", u)
	}
	if r.opt.Rewrite && s.Whole() && r.unsound == nil {
		say("  nothing in the log; it is rewritten because you asked for it")
	}
	r.textPlan(say)
	return b.String()
}

func (r *Repair) textLost(say func(string, ...any)) {
	const most = 20
	for i, l := range r.survey.Lost {
		if i == most {
			say("  and %d more such places", len(r.survey.Lost)-most)
			break
		}
		what := "their changes are lost"
		if r.best != nil && l.To <= r.best.Header.Seq {
			what = fmt.Sprintf("the checkpoint of batch %d has their effect", r.best.Header.Seq)
		} else if r.best != nil && l.From <= r.best.Header.Seq {
			what = fmt.Sprintf("the checkpoint of batch %d has the effect of those up to it, the changes of the others are lost", r.best.Header.Seq)
		}
		when := ""
		switch {
		case l.After > 0 && l.Before > 0:
			when = fmt.Sprintf(", written between %s and %s", at(l.After), at(l.Before))
		case l.After > 0:
			when = ", written after " + at(l.After)
		case l.Before > 0:
			when = ", written before " + at(l.Before)
		}
		say("  batches %d to %d (%d) are lost%s: %s", l.From, l.To, l.To-l.From+1, when, what)
	}
}

func (r *Repair) textPlan(say func(string, ...any)) {
	s := r.survey
	if !r.rewrites() {
		say("What the repair does: the log is whole and stays as it is.")
		if r.best != nil {
			say("  it writes the checkpoint of batch %d anew, in place of those that are there", r.best.Header.Seq)
		}
		say("  what cannot be used is kept in %s; remove it when you no longer need it", r.away())
		return
	}
	say("What the repair does:")
	say("  it makes a new log with a new id of the batches %d to %d; where one is lost there is one that says so, and no position is ever used again", r.first, s.Last)
	if r.first > s.First {
		say("  the batches before %d are left out: with a hole behind them they no longer lead to the state that was; they stay in the old files", r.first)
	}
	if r.best != nil {
		say("  it takes over the checkpoint of batch %d, so that the state is the one that was there, and what comes after it is replayed", r.best.Header.Seq)
	} else {
		say("  views and tables are computed anew from what is left")
	}
	if _, gone, _ := r.lost(); gone > 0 {
		say("  what %d batches changed is lost for good", gone)
	} else {
		say("  no change that was acknowledged is lost, as far as the files tell")
	}
	say("  live clients get their views anew (gap): their positions are of the old log")
	say("  everything that is there now is kept in %s; remove it when you no longer need it", r.away())
	say("  it writes an entry into the audit trail")
}

// size formats bytes for people.
func size(bytes int64) string {
	switch {
	case bytes >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", (bytes+1023)>>10)
}

// at formats a stamp.
func at(stamp int64) string {
	return time.UnixMicro(stamp).UTC().Format("2006-01-02 15:04:05.000") + " UTC"
}

// away is the folder in the data folder to which what is there now goes: one that is not there yet.
func (r *Repair) away() string {
	name := "damaged-" + r.survey.Log.String()
	for n := 2; ; n++ {
		if _, err := os.Lstat(filepath.Join(r.folder.Path(), name)); err != nil {
			return name
		}
		name = fmt.Sprintf("damaged-%s-%d", r.survey.Log, n)
	}
}

// Repaired is what a repair did.
type Repaired struct {
	Log       string           `json:"log"`    // the new id; the old one when only files were put aside
	Parent    string           `json:"parent"` // the old id
	First     uint64           `json:"first"`
	Head      uint64           `json:"head"`
	Lost      []backbone.Range `json:"lost"`
	Gone      uint64           `json:"gone"`                 // batches of which nothing has the effect
	Kept      string           `json:"kept"`                 // folder with what was there
	Carried   uint64           `json:"checkpoint,omitempty"` // position of the checkpoint that was taken over
	Rewritten bool             `json:"rewritten"`
}

// Do repairs. A crash or an error before the end leaves everything as it was, or, once the new log moves in, something that the next opening of the folder
// finishes.
func (r *Repair) Do(ctx context.Context) (*Repaired, error) {
	dir, away := r.folder.Path(), r.away()
	out := &Repaired{Log: r.survey.Log.String(), Parent: r.survey.Log.String(), First: r.first, Head: r.survey.Last, Kept: filepath.Join(dir, away)}
	if free, err := disk.Free(dir); err == nil && r.rewrites() && free < uint64(r.survey.Bytes) {
		return nil, fmt.Errorf("the new log needs %s beside the old one, and %s are free: make room on the disk of %s",
			size(r.survey.Bytes), size(int64(free)), dir)
	}
	into := filepath.Join(dir, repairFolder)
	if err := os.RemoveAll(into); err != nil { // of a repair that was interrupted
		return nil, err
	}
	b := builder{dir: into, keys: r.keys, clock: r.opt.Clock, logger: r.opt.Logger, parent: r.survey.Log}
	gone := replaced()
	var err error
	if r.rewrites() {
		err = r.build(ctx, &b, out)
	} else {
		gone, err = r.renew(&b)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(into))
	}
	err = errors.Join(r.checkpoints.Close(), r.folder.Upgrade())
	r.checkpoints = nil
	if err != nil {
		return nil, err
	}
	r.tell("putting it in place")
	return out, backbone.Swap(dir, repairFolder, away, gone)
}

// renew writes the best checkpoint anew, for a log that stays, and returns what is to go.
func (r *Repair) renew(b *builder) (gone []string, err error) {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return nil, err
	}
	if r.badLineage != nil {
		gone = append(gone, "lineage")
	}
	if !r.aside {
		return gone, nil
	}
	gone = append(gone, "checkpoints", "copy")
	if r.best == nil {
		return gone, nil
	}
	state, err := r.checkpoints.Load(*r.best, false)
	if err != nil {
		return nil, err
	}
	h := state.Header()
	b.id, b.at = h.Log, *h
	return gone, b.carry(state)
}

// build makes the new log and what belongs to it.
func (r *Repair) build(ctx context.Context, b *builder, out *Repaired) error {
	var carry uint64
	digest, stamp := r.survey.Start(r.first)
	if r.best != nil {
		carry = r.best.Header.Seq
		if carry+1 == r.first {
			digest, stamp = r.best.Header.Digest, r.best.Header.Stamp
		}
	}
	if err := b.begin(ctx, r.first, digest, stamp, "lost before the repair", carry); err != nil {
		return err
	}
	r.tell("writing the new log")
	err := r.survey.Each(ctx, func(batch *change.Batch) error {
		if batch.Header().Seq < r.first {
			return nil
		}
		return b.add(ctx, batch)
	})
	if err == nil {
		err = b.log.Lose(ctx, r.survey.Last)
	}
	_, gone, lost := r.lost()
	out.Lost, out.Gone, out.Rewritten = lost, gone, true
	if err == nil {
		details, _ := json.Marshal(map[string]any{"parent": r.survey.Log.String(), "lost": lost[:min(len(lost), 100)], "gone": gone, "first": r.first})
		err = b.end(ctx, "repair", change.Position{Log: r.survey.Log, Seq: r.survey.Last}.String(), details)
	}
	if err != nil {
		return errors.Join(err, b.abandon())
	}
	out.Log, out.Head = b.id.String(), b.head
	if r.best != nil {
		r.tell("taking over the checkpoint")
		state, err := r.checkpoints.Load(*r.best, false)
		if err != nil {
			return err
		}
		if err := b.carry(state); err != nil {
			return err
		}
		out.Carried = carry
	}
	branch := r.survey.Last
	if len(lost) > 0 {
		branch = lost[0].From - 1
	}
	return b.lineage(&backbone.Lineage{Parent: r.survey.Log.String(), Branch: branch, First: r.first, Lost: lost, Reason: "repair", Ancestors: r.lineage.Descend()})
}

// Close releases the data folder.
func (r *Repair) Close() error {
	var err error
	if r.checkpoints != nil {
		err = r.checkpoints.Close()
		r.checkpoints = nil
	}
	return errors.Join(err, r.folder.Close())
}

// builder makes a log with its checkpoint in a folder: what a repair and a restore have in common.
type builder struct {
	dir    string // made by begin
	keys   *seal.Ring
	clock  run.Clock
	logger *slog.Logger
	parent change.LogID

	id   change.LogID // of the new log
	log  *backbone.Rewriter
	head uint64
	at   checkpoint.Header // of the batch whose checkpoint is taken over: Seq, Digest and Stamp
}

// begin makes the folder and the empty log. carry is the position of the checkpoint that is to be taken over, 0 when there is none.
func (b *builder) begin(ctx context.Context, first uint64, digest change.Digest, stamp int64, why string, carry uint64) error {
	store := filepath.Join(b.dir, "store")
	if err := os.MkdirAll(store, 0o700); err != nil {
		return err
	}
	driver, err := jetstream.Open(ctx, jetstream.Options{Dir: store, Sync: backbone.Buffered, Log: b.logger})
	if err != nil {
		return fmt.Errorf("make the new log: %w", err)
	}
	b.id = backbone.NewLogID()
	b.at.Seq = carry
	if carry > 0 && carry+1 == first {
		b.at.Digest, b.at.Stamp = digest, stamp
	}
	b.log, err = backbone.NewRewriter(ctx, backbone.RewriteOptions{Driver: driver, Dir: b.dir, Log: b.id, Parent: b.parent, Keys: b.keys,
		First: first, Digest: digest, Stamp: stamp, Why: why})
	return err
}

// add copies a batch.
func (b *builder) add(ctx context.Context, batch *change.Batch) error {
	if err := b.log.Add(ctx, batch); err != nil {
		return err
	}
	if seq, digest, stamp := b.log.Last(); seq == b.at.Seq {
		b.at.Digest, b.at.Stamp = digest, stamp
	}
	return nil
}

// end appends the record of what made the log, and closes it.
func (b *builder) end(ctx context.Context, act, object string, details json.RawMessage) error {
	now := b.clock.Now().UnixMicro()
	record := audit.Act{At: now, Subject: operator, Role: operator, Act: act, Object: object, Outcome: "done", Details: details}
	if err := b.log.Append(ctx, now, change.Entry{Kind: change.EntryAudit, Last: true, Body: record.Encode()}); err != nil {
		return err
	}
	b.head, _, _ = b.log.Last()
	return b.log.Finish()
}

func (b *builder) abandon() error {
	if b.log == nil {
		return nil
	}
	return b.log.Abandon()
}

// openCheckpoints opens the store of the new log's checkpoints.
func (b *builder) openCheckpoints() (*checkpoint.Store, error) {
	store, err := checkpoint.Open(checkpoint.Options{Dir: filepath.Join(b.dir, "checkpoints"), Log: b.id, Keys: b.keys, Clock: b.clock, Slog: b.logger})
	if err != nil {
		return nil, fmt.Errorf("make the checkpoints: %w", err)
	}
	return store, nil
}

// headed returns the header of a checkpoint of the parent as that of the new log.
func (b *builder) headed(h *checkpoint.Header) checkpoint.Header {
	out := *h
	out.Log, out.Digest, out.Stamp = b.id, b.at.Digest, b.at.Stamp
	return out
}

// carry takes a checkpoint of the parent over to the new log: the same pages under a new header.
func (b *builder) carry(state *checkpoint.State) error {
	store, err := b.openCheckpoints()
	if err != nil {
		return err
	}
	w, err := store.Begin(b.headed(state.Header()))
	if err == nil {
		if err = state.WriteTo(w); err != nil {
			w.Abort()
		} else {
			fault.Point("rewrite.checkpoint_written")
			err = w.Commit()
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("take over the checkpoint of batch %d: %w", state.Header().Seq, err), store.Close())
	}
	fault.Point("rewrite.checkpoint_carried")
	return store.Close()
}

func (b *builder) lineage(l *backbone.Lineage) error {
	l.Log, l.At = b.id.String(), b.clock.Now().UTC().Format(time.RFC3339)
	return backbone.WriteLineage(b.dir, l)
}
