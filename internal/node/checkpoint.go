package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/flow"
	"laaster/internal/view"
)

// keeping is what the checkpoint loop knows. It has the fields of one owner apart from those that are marked.
type keeping struct {
	ask       chan chan error // have a checkpoint written now; its outcome comes back
	logged    atomic.Int64    // bytes applied since the last checkpoint: the engine loop adds
	grown     chan struct{}   // capacity 1: logged passed checkpoint.log_bytes
	holds     sync.RWMutex    // held by readers while the log is read from behind; a trim needs it alone
	seq       atomic.Uint64   // of the newest checkpoint; any goroutine may read
	at        atomic.Int64    // when it was committed, microseconds since 1970
	took      atomic.Int64    // how long it took to write, nanoseconds
	pause     atomic.Int64    // how long the engine waited for it, nanoseconds
	failed    atomic.Int64    // checkpoints that could not be written since the start
	copied    atomic.Uint64   // position of the second copy
	copyAt    time.Time       // when the last one was made or tried; the loop's
	copyTried bool            // since the start, or the start found one; the loop's
	size      int64           // about what the last checkpoint wrote, in bytes; the loop's
}

// room reports whether so many bytes can be written and leave the rest free. Without a guard nobody knows, and there is.
func (n *Node) room(bytes, rest int64) bool {
	if n.guard == nil {
		return true
	}
	_, free := n.guard.Check()
	return int64(min(free, 1<<62)) >= bytes+rest
}

// retryAfter is how long the loop waits after a checkpoint that could not be written.
const retryAfter = 5 * time.Second

// openCheckpoints opens the store of checkpoints, when there is a data folder.
func (n *Node) openCheckpoints() error {
	if n.folder == nil {
		return nil
	}
	s := &n.opt.Settings
	second := s.Checkpoint.Copy
	if second == "" {
		second = filepath.Join(n.folder.Path(), "copy")
	}
	var err error
	n.checkpoints, err = checkpoint.Open(checkpoint.Options{Dir: filepath.Join(n.folder.Path(), "checkpoints"), Copy: second,
		Log: n.shard.ID(), Shard: n.shard.Number(), Keys: n.keys, Clock: n.opt.Clock, Slog: n.opt.Logger, Rate: checkpointRate})
	if err != nil {
		return fmt.Errorf("open the checkpoints: %w", err)
	}
	return nil
}

// checkpointRate is how many bytes a second a checkpoint writes, so that it leaves disk and processor to the log: on two cores, with a screen's p99 of 11 ms between
// checkpoints, it was 11 to 12 ms during them at this rate and 15 to 37 ms at four times as much. A state of 1 GiB that changed as a whole takes half a minute. At a stop the rate
// does not count.
const checkpointRate = 32 << 20

// checkpointLoop writes a checkpoint when the settings say so or somebody asks, and trims the log behind them.
func (n *Node) checkpointLoop(ctx context.Context) error {
	if n.checkpoints == nil {
		return nil
	}
	every := time.Duration(n.opt.Settings.Checkpoint.Every)
	n.kept.copyAt = n.opt.Clock.Now()
	wait := every
	for {
		var answer chan error
		select {
		case <-ctx.Done():
			return nil
		case <-n.ended:
			return nil
		case answer = <-n.kept.ask:
		case <-n.kept.grown:
		case <-n.opt.Clock.After(wait):
		}
		err := n.checkpoint(ctx, n.betweenBatches)
		wait = every
		if err != nil {
			wait = min(every, retryAfter)
		}
		if answer != nil {
			answer <- err
		}
		if err == nil {
			n.copyCheckpoint()
			n.trimLog(ctx)
		}
	}
}

// Checkpoint writes a checkpoint now and returns its position.
func (n *Node) Checkpoint(ctx context.Context) (uint64, error) {
	if n.checkpoints == nil {
		return 0, errors.New("there are no checkpoints: the log is in memory")
	}
	done, at := make(chan error, 1), n.applied.Load()
	select {
	case n.kept.ask <- done:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-n.ended:
		return 0, errors.New("the engine has stopped")
	}
	select {
	case err := <-done:
		seq := n.kept.seq.Load()
		if err == nil && seq < at {
			err = errors.New("no checkpoint was written: the disk is low, or a deployment waits to take effect; /readyz says more")
		}
		return seq, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// still is the state between two batches.
type still struct {
	header checkpoint.Header
	last   *change.Batch
	engine *flow.Frozen
	store  *view.Frozen
	own    []byte
	of     *flow.Engine
	err    error
}

// checkpoint writes one, unless nothing was applied since the last. between has the engine stand still for a function.
func (n *Node) checkpoint(ctx context.Context, between func(func()) error) error {
	if !n.room(n.kept.size, int64(n.opt.Settings.Disk.LowWater)/2) {
		n.degrade("checkpoint", "there is no room on the disk for a checkpoint: the log has everything, a start takes longer")
		return nil
	}
	var s *still
	var pause time.Duration
	err := between(func() {
		began := n.opt.Clock.Now()
		s = n.freeze()
		pause = n.opt.Clock.Now().Sub(began)
	})
	if err != nil || s == nil {
		return err
	}
	began := n.opt.Clock.Now()
	err = n.write(s)
	done := func() {
		n.store.Done(s.store, err == nil)
		s.of.Done(s.engine, err == nil)
		n.trimMemory()
	}
	if between(done) != nil {
		done() // the engine loop has ended
	}
	if err != nil {
		n.kept.failed.Add(1)
		n.opt.Logger.Error("a checkpoint could not be written; the log has everything, a start takes longer", "position", n.position(s.header.Seq), "error", err.Error())
		n.degrade("checkpoint", "the last checkpoint could not be written: "+err.Error())
		if damage := (*checkpoint.Damage)(nil); errors.As(err, &damage) { // of a page that it needs from an older one: so will the next
			n.damaged(err)
		}
		return err
	}
	n.restore("checkpoint")
	n.kept.seq.Store(s.header.Seq)
	n.kept.at.Store(n.opt.Clock.Now().UnixMicro())
	n.kept.took.Store(n.opt.Clock.Now().Sub(began).Nanoseconds())
	n.kept.pause.Store(pause.Nanoseconds())
	n.opt.Logger.Debug("checkpoint", "position", n.position(s.header.Seq), "pause", pause, "took", n.opt.Clock.Now().Sub(began))
	return nil
}

// freeze has the state stand still, as the engine loop; nil when it is in a checkpoint already. While a deployment waits to take effect there is none: its
// definition is in the log, and a start would look for the one before.
func (n *Node) freeze() *still {
	at := n.applied.Load()
	if at == n.kept.seq.Load() || n.last == nil {
		return nil
	}
	if d := n.next.Load(); d != nil && d.late {
		return nil
	}
	h := n.last.Header()
	own, err := json.Marshal(nodeState{Slots: n.slots, Relations: len(n.store.Relations()), Complete: n.complete, Limits: n.stopLimits()})
	s := &still{last: n.last, of: n.engine, own: own, err: err}
	s.header = checkpoint.Header{Log: h.Log, Shard: h.Shard, Seq: h.Seq, Stamp: h.Stamp, Fingerprint: n.engine.Fingerprint(),
		Plan: n.called.planOf(n.program.Load()), Catalog: n.program.Load().Catalog}
	s.engine, s.store = n.engine.Freeze(n.checkpoints.NewObject), n.store.Freeze(n.checkpoints.NewObject)
	n.kept.logged.Store(0)
	return s
}

// write writes what stands still. It runs beside the engine.
func (n *Node) write(s *still) (err error) {
	if s.err != nil {
		return s.err
	}
	if n.trail != nil { // the replay behind the checkpoint will not bring its records again
		if err := n.trail.Sync(); err != nil {
			return err
		}
	}
	s.header.Digest = s.last.Digest()
	w, err := n.checkpoints.Begin(s.header)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.Abort()
		}
	}()
	if err := s.engine.Write(w); err != nil {
		return err
	}
	if err := s.store.Write(w); err != nil {
		return err
	}
	w.Part("node", s.own)
	err = w.Commit()
	n.kept.size = w.Written()
	return err
}

// lastCheckpoint writes the state at a clean stop, when the engine loop has ended, so that the next start has nothing to replay.
func (n *Node) lastCheckpoint() {
	if n.checkpoints == nil || n.engine == nil || n.health().State == stateFailed {
		return
	}
	_ = n.checkpoint(context.Background(), func(f func()) error { f(); return nil }) // told in the log; the next start replays
}

// copyCheckpoint makes the second copy when its time has come.
func (n *Node) copyCheckpoint() {
	now := n.opt.Clock.Now()
	if n.kept.copied.Load() == n.kept.seq.Load() || n.kept.copyTried && now.Sub(n.kept.copyAt) < time.Duration(n.opt.Settings.Checkpoint.CopyEvery) {
		return
	}
	n.kept.copyAt, n.kept.copyTried = now, true
	size := int64(0)
	for _, i := range n.checkpoints.List() {
		if i.Err == nil && !i.Copy {
			size = i.Bytes
			break
		}
	}
	if !n.room(size, int64(n.opt.Settings.Disk.LowWater)) {
		n.degrade("copy", fmt.Sprintf("the second copy of the checkpoint would take %d MiB and leave less than disk.low_water free: the one before stays", size>>20))
		return
	}
	info, err := n.checkpoints.Copy()
	if err != nil {
		n.opt.Logger.Error("the second copy of the checkpoint could not be made; the one before stays", "error", err.Error())
		n.degrade("copy", "the second copy of the checkpoint could not be made: "+err.Error())
		return
	}
	n.restore("copy")
	n.kept.copied.Store(info.Header.Seq)
}

// holdLog keeps the log from being trimmed until the function that it returns is called.
func (n *Node) holdLog() (release func()) {
	n.kept.holds.RLock()
	return n.kept.holds.RUnlock
}

// trimRoom is the free space in bytes without which the log is not trimmed: a purge may write a block file of 8 MiB anew, and the server may have to write
// what it still holds back.
const trimRoom = 32 << 20

// trimLog takes away the beginning of the log as the settings say, up to the oldest checkpoint that is kept, the second copy included.
func (n *Node) trimLog(ctx context.Context) {
	r := &n.opt.Settings.Retention
	if r.Age == 0 && r.Bytes == 0 || n.kept.copied.Load() == 0 {
		return
	}
	if n.shard.Err() != nil || !n.room(0, trimRoom) { // the embedded server waits for itself for ever when a purge meets a full disk
		return
	}
	if !n.kept.holds.TryLock() { // somebody reads: the next time
		return
	}
	defer n.kept.holds.Unlock()
	first, err := n.shard.Floor(ctx, time.Duration(r.Age), int64(r.Bytes))
	if err == nil {
		first = min(first, n.oldestKept()+1)
		if first <= n.shard.First() {
			return
		}
		err = n.shard.Trim(ctx, first)
	}
	if err != nil {
		n.opt.Logger.Error("the log could not be trimmed", "error", err.Error())
		n.degrade("retention", "the log could not be trimmed: "+err.Error())
		return
	}
	n.restore("retention")
	n.opt.Logger.Info("the log was trimmed", "first", n.position(first))
}

// oldestKept returns the lowest position of a checkpoint that a start may need.
func (n *Node) oldestKept() uint64 {
	oldest := n.applied.Load()
	for _, i := range n.checkpoints.List() {
		if i.Err == nil && i.Header.Log == n.shard.ID() {
			oldest = min(oldest, i.Header.Seq)
		}
	}
	return oldest
}

// trimMemory, as the engine loop, frees what a checkpoint has when state and rows take more memory than they may.
func (n *Node) trimMemory() {
	limit := int64(n.opt.Settings.Limits.Memory)
	c := n.engine.Trim(limit / 2)
	rows := n.store.Trim(max(limit-c.Resident, limit/4))
	n.resident.Store(c.Resident + rows)
}
