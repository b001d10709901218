package view

import (
	"sort"

	"laaster/internal/change"
)

// ring keeps the newest epochs up to a number of bytes. Slices handed out by since stay valid and unchanged: elements
// are only ever appended behind them, and dropping from the front moves an index until a new array is made.
type ring struct {
	epochs  []*change.Epoch // epochs[start:] are kept, ascending by Seq
	start   int
	floor   uint64 // the oldest cursor that can be continued: Seq of the newest epoch that is not here
	bytes   int    // held by epochs[start:]
	dropped int    // held by epochs[:start], gone at the next compaction
	limit   int
}

func (r *ring) push(e *change.Epoch) {
	r.epochs = append(r.epochs, e)
	r.bytes += held(e)
	for r.bytes > r.limit && r.start < len(r.epochs)-1 {
		old := r.epochs[r.start]
		r.start++
		n := held(old)
		r.bytes -= n
		r.dropped += n
		r.floor = old.Seq
	}
	if r.dropped > r.limit/8 {
		r.epochs = append(make([]*change.Epoch, 0, (len(r.epochs)-r.start)*5/4+16), r.epochs[r.start:]...)
		r.start, r.dropped = 0, 0
	}
}

// since returns the epochs after the cursor from, or false when some of them are gone.
func (r *ring) since(from uint64) ([]*change.Epoch, bool) {
	if from < r.floor {
		return nil, false
	}
	kept := r.epochs[r.start:len(r.epochs):len(r.epochs)]
	i := sort.Search(len(kept), func(i int) bool { return kept[i].Seq > from })
	return kept[i:], true
}

// held estimates the memory of an epoch: what its maker says, or at least its slices and bytes.
func held(e *change.Epoch) int {
	const epochSize, deltaSize, changeSize, outcomeSize = 128, 32, 72, 56
	n := epochSize + len(e.Deltas)*deltaSize + len(e.Outcomes)*outcomeSize
	for i := range e.Deltas {
		n += len(e.Deltas[i].Changes) * changeSize
	}
	return max(n, e.Bytes)
}
