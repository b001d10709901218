package backbone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"laaster/internal/change"
	"laaster/internal/kit/fault"
	"laaster/internal/seal"
)

// RewriteOptions says what a [Rewriter] makes.
type RewriteOptions struct {
	Driver Driver // an empty store; the Rewriter closes it
	Dir    string // an existing folder for the high-water and the base file
	Shard  uint32
	Log    change.LogID // of the new log, see NewLogID
	Parent change.LogID // whose batches they were
	Keys   *seal.Ring   // nil writes plain batches
	// First is where the log begins; 0 is 1. From 2 on, Digest and Stamp are of the batch before: any that the first one may follow.
	First  uint64
	Digest change.Digest
	Stamp  int64
	Why    string // is written where a batch is lost, for people
}

// Rewriter makes a new log of the batches of another one: the same entries at the same sequences with the same stamps, under a new log id and a
// new chain. Where a batch is lost there is one that says so, so that no sequence is ever used for two things. Nothing is durable before
// Finish, and what an end without it leaves is no log. One goroutine uses it.
type Rewriter struct {
	o       RewriteOptions
	builder change.Builder
	sealer  sealer
	next    uint64
	digest  change.Digest // of batch next-1
	stamp   int64         // of batch next-1
	lost    []Range
}

// NewLogID makes the name of a new log.
func NewLogID() change.LogID { return newLogID() }

// NewRewriter begins a new log. On an error the driver is closed.
func NewRewriter(ctx context.Context, o RewriteOptions) (*Rewriter, error) {
	o.First = max(o.First, 1)
	w := &Rewriter{o: o, sealer: sealer{keys: o.Keys}, next: o.First}
	if o.First > 1 {
		w.digest, w.stamp = o.Digest, o.Stamp
	}
	_, last, err := o.Driver.Bounds(ctx)
	if err == nil && last > 0 {
		err = errors.New("the new store has something in it")
	}
	if err == nil {
		err = o.Driver.Trim(ctx, o.First)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin the new log: %w", err), o.Driver.Close())
	}
	fault.Point("rewrite.begun")
	return w, nil
}

// Last returns the newest batch of the new log, or what it begins behind.
func (w *Rewriter) Last() (seq uint64, digest change.Digest, stamp int64) {
	return w.next - 1, w.digest, w.stamp
}

// Lost returns which sequences were filled up.
func (w *Rewriter) Lost() []Range { return w.lost }

// Add copies a batch of the parent. Those between the one before and it are lost. b is the caller's again on return.
func (w *Rewriter) Add(ctx context.Context, b *change.Batch) error {
	h := b.Header()
	if h.Seq < w.next {
		return fmt.Errorf("batch %d comes behind batch %d", h.Seq, w.next-1)
	}
	if lost := int64(h.Seq - w.next); w.stamp == 0 && h.Stamp > lost+1 { // nothing is known of the time before
		w.stamp = h.Stamp - lost - 1
	}
	if err := w.Lose(ctx, h.Seq-1); err != nil {
		return err
	}
	w.builder.Reset()
	for it, e := b.Entries(), (change.Entry{}); it.Next(&e); {
		if err := w.builder.Add(&e); err != nil {
			return fmt.Errorf("copy batch %d: %w", h.Seq, err)
		}
	}
	return w.put(ctx, h.Stamp)
}

// lostBody is what an entry says that stands for a lost batch.
type lostBody struct {
	Log   string `json:"log"` // that it was lost of
	Seq   uint64 `json:"seq"`
	Shard uint32 `json:"shard"`
	Why   string `json:"why,omitempty"`
}

// Lose fills up to and with to: batches that change nothing and say that one was lost, each a microsecond after the one before.
func (w *Rewriter) Lose(ctx context.Context, to uint64) error {
	from := w.next
	for w.next <= to {
		body, err := json.Marshal(lostBody{w.o.Parent.String(), w.next, w.o.Shard, w.o.Why})
		if err != nil {
			return err
		}
		w.builder.Reset()
		if err := w.builder.Add(&change.Entry{Kind: change.EntryLost, Last: true, Body: body}); err != nil {
			return err
		}
		if err := w.put(ctx, w.stamp+1); err != nil {
			return err
		}
		fault.Point("rewrite.lost_filled")
	}
	if to >= from {
		w.lost = append(w.lost, Range{from, to})
	}
	return nil
}

// Append adds a batch that the parent did not have, stamped no earlier than stamp (microseconds since 1970).
func (w *Rewriter) Append(ctx context.Context, stamp int64, entries ...change.Entry) error {
	w.builder.Reset()
	for i := range entries {
		if err := w.builder.Add(&entries[i]); err != nil {
			return err
		}
	}
	return w.put(ctx, max(stamp, w.stamp+1))
}

// put seals what the builder has as the next batch and stores it.
func (w *Rewriter) put(ctx context.Context, stamp int64) error {
	if stamp <= w.stamp {
		return fmt.Errorf("batch %d has a time that is not after that of the batch before it", w.next)
	}
	b := w.builder.Seal(change.Header{Log: w.o.Log, Shard: w.o.Shard, Seq: w.next, Prev: w.digest, Stamp: stamp})
	if _, err := w.o.Driver.Append(ctx, w.sealer.wrap(&b), w.next-1); err != nil {
		return fmt.Errorf("write batch %d: %w", w.next, err)
	}
	fault.Point("rewrite.batch_written")
	w.next, w.digest, w.stamp = w.next+1, b.Digest(), stamp
	return nil
}

// Finish writes the high-water and the base file and closes the store. What is in the store's files is as durable as the store's level says.
func (w *Rewriter) Finish() error {
	if w.o.First > 1 {
		b := &base{Log: w.o.Log, Shard: w.o.Shard, First: w.o.First, Digest: w.o.Digest, Stamp: w.o.Stamp}
		if err := writeBase(w.o.Dir, b); err != nil {
			return errors.Join(err, w.Abandon())
		}
		fault.Point("rewrite.base_written")
	}
	hw, err := createHighWater(highWaterPath(w.o.Dir, w.o.Shard), &mark{Log: w.o.Log, Shard: w.o.Shard, Seq: w.next - 1, Digest: w.digest})
	if err == nil {
		err = hw.close()
	}
	fault.Point("rewrite.marked")
	return errors.Join(err, w.Abandon())
}

// Abandon closes the store without making it a log.
func (w *Rewriter) Abandon() error { return w.o.Driver.Close() }
