package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"laaster/app"
	"laaster/internal/backbone"
	"laaster/internal/backbone/archive"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// backupRate is how many bytes a second a backup of a running server reads at most, so that it leaves disk and processor to the app.
const backupRate = 64 << 20

// serveBackup streams a backup set of the position at which it begins. A set that cannot be finished ends without its manifest, and the connection is cut.
func (n *Node) serveBackup(w http.ResponseWriter, q *http.Request) {
	if n.folder == nil {
		n.problems.answer(w, q, wire.NewProblem(wire.InvalidRequest, "the log is in memory: there is nothing to back up").WithHint("set backbone and durability so that the log is on disk"))
		return
	}
	if !n.backing.CompareAndSwap(false, true) {
		p := wire.NewProblem(wire.Busy, "another backup is being made").WithHint("try again when it is done")
		p.RetryAfterMS = 10_000
		n.problems.answer(w, q, p)
		return
	}
	defer n.backing.Store(false)
	ended, problem := n.privileged(q.Context(), "backup", n.position(n.applied.Load()), nil)
	if problem != nil {
		n.problems.answer(w, q, problem)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+n.shard.ID().String()+`.backup"`)
	out := &paced{w: w, clock: n.opt.Clock, rate: backupRate, began: n.opt.Clock.Now(), each: n.keepWriting(w)}
	m, err := n.backup(q.Context(), out)
	ended(err)
	if err != nil {
		n.opt.Logger.Error("a backup could not be finished", "error", err.Error())
		if out.written == 0 {
			w.Header().Del("Content-Disposition")
			n.problems.answer(w, q, wire.NewProblem(wire.Internal, "the backup could not be made: "+err.Error()))
			return
		}
		panic(http.ErrAbortHandler) // the caller must not take it for whole
	}
	n.opt.Logger.Info("a backup was made", "position", n.position(m.Until), "batches", m.Batches, "checkpoints", len(m.Checkpoints), "root", m.Root)
}

// keepWriting returns what extends the deadline of an answer: a caller who takes nothing for limits.stall is cut, so that it does not hold the log for ever.
func (n *Node) keepWriting(w http.ResponseWriter) func() {
	c := http.NewResponseController(w)
	return func() {
		_ = c.SetWriteDeadline(n.opt.Clock.Now().Add(time.Duration(n.opt.Settings.Limits.Stall))) // not every writer has one
	}
}

// paced passes writes on at a rate.
type paced struct {
	w       io.Writer
	clock   run.Clock
	rate    int64 // bytes a second
	began   time.Time
	written int64
	each    func()
}

// Write implements io.Writer.
func (p *paced) Write(b []byte) (int, error) {
	if p.each != nil {
		p.each()
	}
	n, err := p.w.Write(b)
	p.written += int64(n)
	due := time.Duration(float64(p.written) / float64(p.rate) * float64(time.Second))
	if ahead := due - p.clock.Now().Sub(p.began); ahead > time.Millisecond && err == nil {
		<-p.clock.After(ahead)
	}
	return n, err
}

// backup writes a set with the newest checkpoint and the log from its beginning to its head.
func (n *Node) backup(ctx context.Context, w io.Writer) (*archive.Manifest, error) {
	release := n.holdLog()
	defer release()
	s := &archive.Source{Log: n.shard.ID(), Shard: n.shard.Number(), Keys: n.keys, Made: n.opt.Clock.Now()}
	s.First, s.Digest, s.Stamp = n.shard.Base()
	list := n.checkpoints.List()
	s.Until = n.shard.Head() // behind every checkpoint of the list
	var err error
	if s.Lineage, err = backbone.ReadLineage(n.folder.Path()); err != nil {
		return nil, err
	}
	if s.Checkpoints, err = n.checkpointsFor(list, s.First); err != nil {
		return nil, err
	}
	s.Replay = func(ctx context.Context, fn func(*change.Batch) error) error { return n.shard.Replay(ctx, s.First, fn) }
	s.Files = n.auditFiles(s.Lineage)
	defer closeFiles(s.Files)
	return archive.Write(ctx, w, s)
}

// checkpointsFor opens the checkpoints that a set needs: the newest, and when the log has been trimmed also the oldest, from which the most positions can be
// restored. Ascending.
func (n *Node) checkpointsFor(list []checkpoint.Info, first uint64) (out []*checkpoint.State, err error) {
	why := errors.New("there is none")
	add := func(i *checkpoint.Info) bool {
		if e := n.usable(i); e != nil {
			why = e
			return false
		}
		c, e := n.checkpoints.Peek(*i)
		if e != nil {
			why = e
			return false
		}
		out = append(out, c)
		return true
	}
	for i := range list {
		if add(&list[i]) {
			break
		}
	}
	if first <= 1 {
		return out, nil
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the log begins at batch %d, and no checkpoint that a backup would need can be read: %w", first, why)
	}
	for i := len(list) - 1; i >= 0 && list[i].Header.Seq < out[0].Header().Seq; i-- {
		if add(&list[i]) {
			out[0], out[1] = out[1], out[0]
			break
		}
	}
	return out, nil
}

// auditFiles opens what proves the audit trail, and those of the logs before: they go along as they are, for `laaster audit verify`.
func (n *Node) auditFiles(before *backbone.Lineage) (out []archive.File) {
	folders := []string{"audit"}
	for _, a := range before.Descend() {
		folders = append(folders, "audit-"+a.Log)
	}
	for i := range 3 * len(folders) {
		name := filepath.Join(folders[i/3], [...]string{"trail", "seals", "key.pub"}[i%3])
		f, err := os.Open(filepath.Join(n.folder.Path(), name))
		if err != nil { // there is none yet
			continue
		}
		size := int64(0)
		if info, err := f.Stat(); err == nil {
			size = info.Size() // more may be appended meanwhile
		}
		out = append(out, archive.File{Name: filepath.ToSlash(name), Data: &limitedFile{io.LimitReader(f, size), f}})
	}
	return out
}

// limitedFile is the first part of a file that grows.
type limitedFile struct {
	io.Reader
	f *os.File
}

func closeFiles(files []archive.File) {
	for _, f := range files {
		if l, ok := f.Data.(*limitedFile); ok {
			_ = l.f.Close() // it was only read
		}
	}
}

// BackupOptions says of what a backup is to be made while no server has it open.
type BackupOptions struct {
	Dir      string // the app folder, for a relative key file; may be empty
	Settings app.Settings
	Clock    run.Clock
	Logger   *slog.Logger
}

// Backup writes a backup set of the data folder of a stopped server.
func Backup(ctx context.Context, o BackupOptions, w io.Writer) (_ *archive.Manifest, err error) {
	if _, err := os.Stat(filepath.Join(o.Settings.Data, "FORMAT")); err != nil {
		return nil, fmt.Errorf("%s is not a data folder (%w)\n  hint: --data names it", o.Settings.Data, err)
	}
	n := &Node{opt: Options{Dir: o.Dir, Settings: o.Settings, Clock: o.Clock, Logger: o.Logger}}
	defer func() { err = errors.Join(err, n.closeStorage()) }()
	if err := n.openLog(ctx); err != nil {
		return nil, err
	}
	if n.folder == nil {
		return nil, errors.New("the log is in memory: there is nothing to back up")
	}
	if err := n.openCheckpoints(); err != nil {
		return nil, err
	}
	return n.backup(ctx, w)
}

// VerifyBackup reads a whole backup set and says what is in it, and of which log its own was made. keys is a key file or env:NAME, empty for none.
func VerifyBackup(file, keys string) (*archive.Manifest, *archive.Header, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	ring, err := loadKeys("", keys)
	if err != nil {
		return nil, nil, err
	}
	var header *archive.Header
	m, err := archive.Read(f, ring, archive.Visitor{Header: func(h *archive.Header) error { header = h; return nil }})
	if err != nil {
		return nil, header, fmt.Errorf("%s: %w", file, err)
	}
	return m, header, nil
}

// RestoreOptions says what is to be made of a backup set.
type RestoreOptions struct {
	File     string
	Data     string // folder that is empty or not there
	Until    string // a position, a sequence or a time (RFC 3339); empty is everything
	Root     string // the root that was noted when the set was made; empty compares nothing
	Keys     string // a key file or env:NAME; empty for none. The set is opened with it, and the folder is encrypted with its first key
	Clock    run.Clock
	Logger   *slog.Logger
	Progress func(text string) // nil tells nobody
}

// Restored is what a restore made.
type Restored struct {
	Data       string `json:"data"`
	Log        string `json:"log"`    // the new id
	Parent     string `json:"parent"` // of whose backup it is
	First      uint64 `json:"first"`
	Until      uint64 `json:"until"` // the last batch of the parent that is in it
	Head       uint64 `json:"head"`
	Checkpoint uint64 `json:"checkpoint,omitempty"` // position of the one that a start begins from
}

// restore is one that is under way.
type restore struct {
	o      RestoreOptions
	header *archive.Header
	m      *archive.Manifest
	until  uint64
	upTo   int64  // stamp, when Until is a time; else 0
	from   uint64 // position of the checkpoint that is taken, when takes
	takes  bool
	b      builder
}

// Restore verifies a whole backup set and then makes a data folder of it, up to a position. Nothing is written before everything was verified, and the folder
// is there, under its name, only when it is complete and durable.
func Restore(ctx context.Context, o RestoreOptions) (_ *Restored, err error) {
	r := &restore{o: o, b: builder{clock: o.Clock, logger: o.Logger}}
	if r.b.keys, err = loadKeys("", o.Keys); err != nil {
		return nil, err
	}
	if err := emptyFolder(o.Data); err != nil {
		return nil, err
	}
	if err := r.verify(ctx); err != nil {
		return nil, err
	}
	if err := r.choose(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(o.Data)), 0o700); err != nil {
		return nil, err
	}
	if free, err := disk.Free(filepath.Dir(filepath.Clean(o.Data))); err == nil && free < r.m.BatchBytes {
		return nil, fmt.Errorf("the log needs %s, and %s are free: make room, or restore elsewhere", size(int64(r.m.BatchBytes)), size(int64(free)))
	}
	if r.b.dir, err = os.MkdirTemp(filepath.Dir(filepath.Clean(o.Data)), filepath.Base(filepath.Clean(o.Data))+".restoring-*"); err != nil {
		return nil, err
	}
	if err := r.build(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.b.dir))
	}
	out := &Restored{Data: o.Data, Log: r.b.id.String(), Parent: r.header.Log, First: r.header.First, Until: r.until, Head: r.b.head, Checkpoint: r.from}
	return out, nil
}

func (r *restore) tell(text string) {
	if r.o.Progress != nil {
		r.o.Progress(text)
	}
}

// emptyFolder refuses a folder that has something in it.
func emptyFolder(path string) error {
	names, err := os.ReadDir(path)
	if err == nil && len(names) > 0 {
		return fmt.Errorf("%s is not empty (%s): a restore needs a folder that is empty or not there\n  hint: move the old one away first", path, names[0].Name())
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// read reads the set once.
func (r *restore) read(ctx context.Context, v archive.Visitor) (*archive.Manifest, error) {
	f, err := os.Open(r.o.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := archive.Read(&watched{ctx, f}, r.b.keys, v)
	if err != nil && !errors.Is(err, errUnneeded) {
		return nil, fmt.Errorf("%s: %w", r.o.File, err)
	}
	return m, err
}

// watched is a file whose reading ends with a context.
type watched struct {
	ctx context.Context
	f   *os.File
}

// Read implements io.Reader.
func (w *watched) Read(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.f.Read(b)
}

// errUnneeded ends the reading of a set of which the rest is not needed.
var errUnneeded = errors.New("enough")

// verify reads the whole set and finds the last batch that is wanted.
func (r *restore) verify(ctx context.Context) (err error) {
	r.tell("verifying the backup")
	if t, err := time.Parse(time.RFC3339Nano, r.o.Until); err == nil {
		r.upTo = t.UnixMicro()
	}
	before := uint64(0) // the last batch not after upTo
	r.m, err = r.read(ctx, archive.Visitor{
		Header: func(h *archive.Header) error { r.header = h; before = h.First - 1; return nil },
		Batch: func(b *change.Batch) error {
			if h := b.Header(); h.Stamp <= r.upTo {
				before = h.Seq
			}
			return nil
		},
	})
	if err != nil && r.header != nil && fault.Bug("restore-unverified") {
		r.m, err = &archive.Manifest{Log: r.header.Log, First: r.header.First, Until: r.header.Until}, nil
	}
	switch {
	case err != nil:
		return err
	case r.o.Root != "" && !strings.EqualFold(r.o.Root, r.m.Root):
		return fmt.Errorf("%s: its root is %s, not %s: it is another backup, or was made anew by somebody", r.o.File, r.m.Root, r.o.Root)
	}
	r.b.parent, err = change.ParseLogID(r.header.Log)
	if err != nil {
		return err
	}
	if r.until = r.m.Until; r.upTo != 0 {
		r.until = before
		return nil
	}
	return r.parseUntil()
}

// parseUntil reads a position or a sequence.
func (r *restore) parseUntil() error {
	text := r.o.Until
	if text == "" {
		return nil
	}
	if seq, err := strconv.ParseUint(text, 10, 64); err == nil {
		r.until = seq
		return nil
	}
	p, err := change.ParsePosition(text)
	switch {
	case err != nil:
		return fmt.Errorf("--until %q is neither a position (<log>.<shard>-<seq>), nor a sequence, nor a time (2026-11-22T09:30:00Z)", text)
	case p.Log.String() != r.header.Log || p.Shard != r.header.Shard:
		return fmt.Errorf("--until %s is a position of another log: the backup is of %s.%d", text, r.header.Log, r.header.Shard)
	}
	r.until = p.Seq
	return nil
}

// choose takes the newest checkpoint that is not behind the position.
func (r *restore) choose() error {
	m := r.m
	for _, c := range m.Checkpoints {
		if c.Seq <= r.until && (r.upTo == 0 || c.Stamp <= r.upTo) {
			r.from, r.takes = c.Seq, true
		}
	}
	earliest := m.First
	if m.First > 1 && len(m.Checkpoints) > 0 {
		earliest = m.Checkpoints[0].Seq
	}
	switch {
	case r.until > m.Until:
		return fmt.Errorf("--until %s: the backup ends at batch %d (%s)", r.o.Until, m.Until, at(m.LastStamp))
	case r.until < earliest || m.First > 1 && !r.takes:
		return fmt.Errorf("--until %s: the earliest position that this backup can restore is batch %d (%s); an older backup has earlier ones",
			r.o.Until, earliest, at(m.FirstStamp))
	}
	return nil
}

// build makes the folder and gives it its name.
func (r *restore) build(ctx context.Context) error {
	folder, err := backbone.OpenFolder(r.b.dir)
	if err != nil {
		return err
	}
	fault.Point("restore.folder_made")
	err = r.fill(ctx)
	if err = errors.Join(err, folder.Close()); err != nil {
		return err
	}
	r.tell("making it durable")
	if err := disk.SyncTree(r.b.dir); err != nil {
		return err
	}
	fault.Point("restore.synced")
	if err := os.Remove(r.o.Data); err != nil && !errors.Is(err, os.ErrNotExist) { // it is empty
		return err
	}
	if err := os.Rename(r.b.dir, filepath.Clean(r.o.Data)); err != nil {
		return err
	}
	fault.Point("restore.renamed")
	return disk.SyncFolder(filepath.Dir(filepath.Clean(r.o.Data)))
}

// fill writes log, checkpoint and the rest into the folder.
func (r *restore) fill(ctx context.Context) error {
	digest, err := r.header.Before()
	if err != nil {
		return err
	}
	if err := r.b.begin(ctx, r.m.First, digest, r.header.Stamp, "lost before the restore", r.from); err != nil {
		return err
	}
	r.tell("writing the log")
	_, err = r.read(ctx, archive.Visitor{Batch: func(b *change.Batch) error {
		if b.Header().Seq > r.until {
			return nil // the trail comes behind them
		}
		return r.b.add(ctx, b)
	}, File: r.file})
	if errors.As(err, new(*archive.SetError)) && fault.Bug("restore-unverified") {
		err = nil
	}
	if err == nil {
		details, _ := json.Marshal(map[string]any{"parent": r.header.Log, "until": r.until, "backup": r.header.Set, "made": r.header.Made})
		err = r.b.end(ctx, "restore", change.Position{Log: r.b.parent, Shard: r.header.Shard, Seq: r.until}.String(), details)
	}
	if err != nil {
		return errors.Join(err, r.b.abandon())
	}
	fault.Point("restore.log_written")
	if r.takes {
		r.tell("writing the checkpoint")
		if err := r.takeCheckpoint(ctx); err != nil {
			return err
		}
	}
	l := &backbone.Lineage{Parent: r.header.Log, Shard: r.header.Shard, Branch: r.until, First: r.m.First, Reason: "restore", Ancestors: r.header.Lineage.Descend()}
	if r.header.Lineage != nil {
		l.Lost = r.header.Lineage.Lost
	}
	return r.b.lineage(l)
}

// takeCheckpoint copies the pages of the checkpoint into a store of the new log.
func (r *restore) takeCheckpoint(ctx context.Context) error {
	store, err := r.b.openCheckpoints()
	if err != nil {
		return err
	}
	done := false
	_, err = r.read(ctx, archive.Visitor{
		Checkpoint: func(h *checkpoint.Header, last checkpoint.ObjectID) (*checkpoint.Writer, error) {
			if h.Seq != r.from {
				return nil, nil
			}
			store.Skip(last)
			return store.Begin(r.b.headed(h))
		},
		Checked: func(w *checkpoint.Writer) error {
			fault.Point("restore.checkpoint_written")
			done = true
			return errors.Join(w.Commit(), errUnneeded)
		},
	})
	if !done && err == nil {
		err = errors.New("the checkpoint is not there any more: the file changed meanwhile")
	}
	if errors.Is(err, errUnneeded) {
		err = nil
	}
	return errors.Join(err, store.Close())
}

// file writes what goes along into a folder of its own, where nothing takes it for the new log's.
func (r *restore) file(name string, _ bool, data []byte) error {
	folder, base, _ := strings.Cut(name, "/")
	log, older := strings.CutPrefix(folder, "audit-")
	if folder == "audit" {
		log = r.header.Log
	} else if _, err := change.ParseLogID(log); err != nil || !older {
		return nil // of a newer version
	}
	if base != filepath.Base(base) || strings.HasPrefix(base, ".") {
		return nil
	}
	dir := filepath.Join(r.b.dir, "audit-"+log)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, base), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// BackupManifest is what a whole backup has in it.
type BackupManifest = archive.Manifest

// NeedsKeys reports whether an error says that a backup is encrypted and no keys were given.
func NeedsKeys(err error) bool { return errors.Is(err, archive.ErrSealed) }

// Settle gives a file that is whole and durable its name, unless something has that name already.
func Settle(from, to string) error {
	if err := os.Link(from, to); err != nil { // unlike a rename it does not replace
		return err
	}
	if err := os.Remove(from); err != nil {
		return err
	}
	return disk.SyncFolder(filepath.Dir(to))
}
