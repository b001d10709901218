package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"laaster/app"
	"laaster/internal/backbone"
	"laaster/internal/backbone/archive"
	"laaster/internal/backbone/jetstream"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/kit/run"
	"laaster/internal/observe"
)

// HistoryOptions says which past is to be looked at.
type HistoryOptions struct {
	Dir      string       // the app folder: laaster.yaml, keys, public/. Its app.sql is not read: the history has its own
	Settings app.Settings // checked; Data is the data folder of a stopped server
	Set      string       // a backup set that is looked at instead of the data folder; empty: none
	Until    string       // a position, a sequence or a time (RFC 3339); empty is the end
	Clock    run.Clock
	Logger   *slog.Logger
	Progress io.Writer // told in words about work that takes longer than a second; nil: nobody
}

// History is an app as it was after one batch of its log. Where it comes from is held, and not changed, until Close.
type History struct {
	o      HistoryOptions
	n      *Node            // without doors, writer and loops
	folder *backbone.Folder // nil: a backup set
	temp   string           // what has to be made somewhere is made here
	data   string           // folder with log and checkpoints
	last   uint64           // where the history ends
	until  uint64
	stamp  int64 // of batch until
}

// OpenHistory makes the state after the batch that Until names: from the newest checkpoint that is not behind it and can be used, and the log from there on,
// or from the whole log. ctx ends the opening.
func OpenHistory(ctx context.Context, o HistoryOptions) (_ *History, err error) {
	h := &History{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	h.n = h.newNode(ctx)
	if err := h.n.openCallers(); err != nil {
		return nil, err
	}
	if h.temp, err = os.MkdirTemp("", "laaster-replay-"); err != nil {
		return nil, err
	}
	if h.n.keys, err = loadKeys(o.Dir, o.Settings.Encryption.Keys); err != nil {
		return nil, err
	}
	if err := h.open(ctx); err != nil {
		return nil, err
	}
	if err := h.n.recall(ctx); err != nil {
		return nil, err
	}
	seq, stamp := h.n.store.Head()
	if h.stamp = stamp; seq != h.until {
		return nil, fmt.Errorf("the state is of batch %d, not of %d", seq, h.until)
	}
	return h, nil
}

// newNode returns a node that can replay.
func (h *History) newNode(ctx context.Context) *Node {
	n := &Node{opt: Options{Dir: h.o.Dir, Settings: h.o.Settings, Clock: h.o.Clock, Logger: h.o.Logger, Progress: h.o.Progress}, metrics: observe.NewMetrics(),
		broken: make(chan error, 1)}
	n.problems = &problemLog{logger: h.o.Logger, clock: h.o.Clock}
	n.group, n.serving = run.New(context.WithoutCancel(ctx)), run.New(context.WithoutCancel(ctx))
	n.leaving, n.leave = context.WithCancel(context.WithoutCancel(ctx))
	n.setState(stateStarting, "")
	return n
}

// open opens log and checkpoints, up to the batch that is wanted.
func (h *History) open(ctx context.Context) (err error) {
	switch {
	case h.o.Set != "":
		h.data = h.temp
		err = h.unpack(ctx)
	case h.o.Settings.Backbone != "embedded":
		return fmt.Errorf("backbone is %s: only the log of an embedded server can be looked at, as its files are here\n  hint: take a backup and look at that, with --backup", h.o.Settings.Backbone)
	default:
		h.data = h.o.Settings.Data
		h.folder, err = backbone.HoldFolder(h.data)
	}
	if err != nil {
		return err
	}
	if err := h.openLog(ctx); err != nil {
		return err
	}
	second := h.o.Settings.Checkpoint.Copy
	if second == "" || h.folder == nil {
		second = filepath.Join(h.data, "copy")
	}
	h.n.checkpoints, err = checkpoint.Open(checkpoint.Options{Dir: filepath.Join(h.data, "checkpoints"), Copy: second, Log: h.n.shard.ID(), Shard: h.n.shard.Number(),
		Keys: h.n.keys, Clock: h.o.Clock, Slog: h.o.Logger, ReadOnly: true})
	return err
}

// openLog opens the log as if it ended at the batch that is wanted.
func (h *History) openLog(ctx context.Context) (err error) {
	if h.n.shard, err = h.openShard(ctx, 0); err != nil {
		return err
	}
	h.last = h.n.shard.Head()
	if marked, err := backbone.Acknowledged(h.data, 0); err != nil {
		return err
	} else if marked > h.last {
		return fmt.Errorf("batches %d to %d cannot be read, though they were acknowledged\n  hint: laaster repair --dry-run says what is damaged; a backup may have them", h.last+1, marked)
	}
	if h.until, err = h.resolve(ctx); err != nil || h.until == h.last {
		return err
	}
	if err := h.n.shard.Close(); err != nil {
		return err
	}
	h.n.shard, err = h.openShard(ctx, h.until)
	return err
}

// openShard opens the log up to a batch, 0 for all of it.
func (h *History) openShard(ctx context.Context, last uint64) (*backbone.Shard, error) {
	shard, err := logOfFiles(ctx, h.data, h.temp, last, backbone.Options{Keys: h.n.keys, Clock: h.o.Clock})
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	if shard.Head() == 0 {
		return nil, errors.Join(errors.New("there is no history: the log is empty"), shard.Close())
	}
	return shard, nil
}

// logOfFiles opens the log of a data folder out of its files, up to a batch, 0 for all of it, and changes nothing there. What a shard writes beside a log goes into
// a new folder below temp.
func logOfFiles(ctx context.Context, data, temp string, last uint64, o backbone.Options) (*backbone.Shard, error) {
	dir, err := os.MkdirTemp(temp, "shard-")
	if err != nil {
		return nil, err
	}
	if err := backbone.CopyBase(data, dir, 0); err != nil {
		return nil, err
	}
	files, err := jetstream.OpenFiles(filepath.Join(data, "store"), 0)
	if err != nil {
		return nil, err
	}
	o.Driver, o.Dir = &upTo{files, last}, dir
	return backbone.Open(ctx, o)
}

// upTo is a log that ends at a batch, 0 for where it ends.
type upTo struct {
	backbone.Driver
	last uint64
}

var errPast = errors.New("past the end")

// Read implements backbone.Driver.
func (u *upTo) Read(ctx context.Context, from uint64, fn func(seq uint64, data []byte) error) error {
	err := u.Driver.Read(ctx, from, func(seq uint64, data []byte) error {
		if u.last > 0 && seq > u.last {
			return errPast
		}
		return fn(seq, data)
	})
	if errors.Is(err, errPast) {
		return nil
	}
	return err
}

// Bounds implements backbone.Driver.
func (u *upTo) Bounds(ctx context.Context) (first, last uint64, err error) {
	first, last, err = u.Driver.Bounds(ctx)
	if u.last > 0 {
		last = min(last, u.last)
	}
	return first, last, err
}

// resolve finds the batch that Until names.
func (h *History) resolve(ctx context.Context) (uint64, error) {
	text, shard := h.o.Until, h.n.shard
	seq, first := h.last, shard.First()
	if text == "" {
		return seq, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		next, err := shard.FirstAfter(ctx, t.UnixMicro()+1)
		if err != nil {
			return 0, err
		}
		if seq = next - 1; seq < first {
			return 0, fmt.Errorf("--until %s is before batch %d, where the history begins", text, first)
		}
		return seq, nil
	}
	if seq, err := strconv.ParseUint(text, 10, 64); err == nil {
		return seq, h.within(seq, first)
	}
	p, err := change.ParsePosition(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("--until %q is neither a position (<log>.<shard>-<seq>), nor a sequence, nor a time (2026-11-22T09:30:00Z)", text)
	case p.Log != shard.ID() || p.Shard != shard.Number():
		return 0, fmt.Errorf("--until %s is a position of another log: this is %s.%d", text, shard.ID(), shard.Number())
	}
	return p.Seq, h.within(p.Seq, first)
}

func (h *History) within(seq, first uint64) error {
	if seq < first || seq > h.last {
		return fmt.Errorf("--until %s: the history goes from batch %d to batch %d", h.o.Until, first, h.last)
	}
	return nil
}

// unpack verifies a backup set as a whole and makes log and checkpoints of it in the temporary folder: the same log, not a new one.
func (h *History) unpack(ctx context.Context) error {
	h.tell("verifying the backup")
	var header *archive.Header
	if _, err := h.readSet(ctx, archive.Visitor{Header: func(a *archive.Header) error { header = a; return nil }}); err != nil {
		return err
	}
	id, err := change.ParseLogID(header.Log)
	if err != nil {
		return err
	}
	digest, err := header.Before()
	if err != nil {
		return err
	}
	store := filepath.Join(h.temp, "store")
	if err := os.Mkdir(store, 0o700); err != nil {
		return err
	}
	driver, err := jetstream.Open(ctx, jetstream.Options{Dir: store, Sync: backbone.Buffered, Log: h.o.Logger})
	if err != nil {
		return err
	}
	log, err := backbone.NewRewriter(ctx, backbone.RewriteOptions{Driver: driver, Dir: h.temp, Log: id, Parent: id, Shard: header.Shard, Keys: h.n.keys,
		First: header.First, Digest: digest, Stamp: header.Stamp})
	if err != nil {
		return err
	}
	h.tell("unpacking the backup")
	if err := h.unpackInto(ctx, log, id); err != nil {
		return errors.Join(err, log.Abandon())
	}
	return log.Finish()
}

func (h *History) unpackInto(ctx context.Context, log *backbone.Rewriter, id change.LogID) error {
	checkpoints, err := checkpoint.Open(checkpoint.Options{Dir: filepath.Join(h.temp, "checkpoints"), Log: id, Keys: h.n.keys, Clock: h.o.Clock, Slog: h.o.Logger})
	if err != nil {
		return err
	}
	var w *checkpoint.Writer
	_, err = h.readSet(ctx, archive.Visitor{
		Batch: func(b *change.Batch) error { return log.Add(ctx, b) },
		Checkpoint: func(at *checkpoint.Header, last checkpoint.ObjectID) (_ *checkpoint.Writer, err error) {
			checkpoints.Skip(last)
			w, err = checkpoints.Begin(*at)
			return w, err
		},
		Checked: func(w *checkpoint.Writer) error { return w.Commit() },
	})
	if err != nil && w != nil {
		w.Abort()
	}
	return errors.Join(err, checkpoints.Close())
}

func (h *History) readSet(ctx context.Context, v archive.Visitor) (*archive.Manifest, error) {
	f, err := os.Open(h.o.Set)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := archive.Read(&watched{ctx, f}, h.n.keys, v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.o.Set, err)
	}
	return m, nil
}

func (h *History) tell(text string) {
	if h.o.Progress != nil {
		fmt.Fprintf(h.o.Progress, "%s …\n", text)
	}
}

// recall makes the state at the head of a log that nobody may add to: recover without what is in app.sql.
func (n *Node) recall(ctx context.Context) error {
	for _, info := range n.checkpoints.List() {
		if info.Err == nil && info.Header.Seq > n.shard.Head() {
			continue
		}
		err := n.resume(ctx, info)
		if err == nil {
			return nil
		}
		if damage := (*backbone.Damage)(nil); ctx.Err() != nil || errors.As(err, &damage) {
			return errors.Join(ctx.Err(), err)
		}
		n.fellBack(info, err)
	}
	if first := n.shard.First(); first > 1 {
		return n.recallTables(ctx, first)
	}
	doc, err := n.lastDefinition(ctx)
	if err != nil {
		return err
	}
	if doc == nil {
		return errors.New("there is no history: the log has no definition of an app yet")
	}
	program, err := n.compileCatalog(doc)
	if err != nil {
		return fmt.Errorf("the definition in the log: %w", err)
	}
	n.program.Store(program)
	return n.replay(ctx)
}

// recallTables is recoverTables for the same.
func (n *Node) recallTables(ctx context.Context, first uint64) error {
	list := n.checkpoints.List()
	for i := len(list) - 1; i >= 0; i-- {
		if n.usable(&list[i]) != nil {
			continue
		}
		err := n.rebuild(ctx, list[i])
		if err == nil || ctx.Err() != nil {
			return err
		}
		n.fellBack(list[i], err)
	}
	return fmt.Errorf("the log begins at batch %d, and no checkpoint from there to batch %d can be used to begin with\n  hint: a later position; or a backup that was taken earlier", first, n.shard.Head())
}

// Position returns the position that the history is looked at.
func (h *History) Position() string { return h.n.position(h.until) }

// Time returns the log's time at the position.
func (h *History) Time() time.Time { return time.UnixMicro(h.stamp).UTC() }

// Last returns the position at which the history ends.
func (h *History) Last() string { return h.n.position(h.last) }

// From says what the state was made from, for people.
func (h *History) From() string {
	if h.n.from.Header.Seq == 0 {
		return fmt.Sprintf("the log from batch %d on", h.n.shard.First())
	}
	return fmt.Sprintf("the checkpoint of batch %d and the log behind it", h.n.from.Header.Seq)
}

// Close releases what is held.
func (h *History) Close() error {
	var err error
	if h.n != nil {
		err = h.n.closeHistory()
	}
	if h.folder != nil {
		err = errors.Join(err, h.folder.Close())
	}
	if h.temp != "" {
		err = errors.Join(err, os.RemoveAll(h.temp))
	}
	return err
}

func (n *Node) closeHistory() error {
	n.leave()
	var err error
	if n.hub != nil {
		err = n.hub.Close()
	}
	n.serving.Stop()
	n.group.Stop()
	return errors.Join(err, n.group.Wait(), n.serving.Wait(), n.closeStorage())
}
