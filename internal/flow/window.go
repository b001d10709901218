package flow

import "encoding/binary"

// window remembers keys, each with a value, for a span of logged time: first in, first out. An entry costs its key and
// about 40 bytes.
type window struct {
	t     table   // mark: the low 32 bits of the entry's place in the queue
	queue [][]ref // chunks, in order of arrival
	spare []ref   // a chunk to use again
	base  uint64  // place of the first slot of queue[0]
	head  uint64  // place of the oldest entry
	tail  uint64  // place after the newest
	runs  []runOf // stamps of the entries, run-length encoded
	sum   sum128  // of all entries
	past  int     // how many of runs are over
	dom   uint64  // of sum
	skip  int     // leading bytes of each value that sum leaves out
	buf   []byte  // scratch of hashing
}

type runOf struct {
	stamp int64
	n     uint64
}

const windowChunk = 4096

func newWindow(domain uint64, skip int) window { return window{t: newTable(), dom: domain, skip: skip} }

func (w *window) slot(place uint64) *ref {
	at := place - w.base
	return &w.queue[at/windowChunk][at%windowChunk]
}

// insert remembers a key that is not there, with room for a value of vlen bytes. The caller fills the value and then calls
// w.sum.add(w.digest(r, stamp)).
func (w *window) insert(h uint64, key []byte, vlen int, stamp int64) ref {
	r := w.t.insert(h, key, vlen)
	w.t.setMark(r, uint32(w.tail))
	if at := w.tail - w.base; at/windowChunk == uint64(len(w.queue)) {
		if w.spare == nil {
			w.spare = make([]ref, windowChunk)
		}
		w.queue = append(w.queue, w.spare)
		w.spare = nil
	}
	*w.slot(w.tail) = r
	w.tail++
	if n := len(w.runs); n > w.past && w.runs[n-1].stamp == stamp {
		w.runs[n-1].n++
	} else {
		w.runs = append(w.runs, runOf{stamp, 1})
	}
	return r
}

// resize gives r room for another value; the entry may move.
func (w *window) resize(h uint64, r ref, vlen int) ref {
	to := w.t.resize(h, r, vlen)
	*w.slot(w.head + uint64(w.t.mark(to)-uint32(w.head))) = to
	return to
}

// digest is what the entry adds to sum: key, value and stamp.
func (w *window) digest(r ref, stamp int64) sum128 {
	w.buf = append(w.buf[:0], w.t.key(r)...)
	w.buf = append(w.buf, w.t.value(r)[w.skip:]...)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(stamp))
	return hash128(w.dom, w.buf)
}

// expire forgets everything that was remembered at until or before.
func (w *window) expire(until int64) {
	for ; w.past < len(w.runs) && w.runs[w.past].stamp <= until; w.past++ {
		for range w.runs[w.past].n {
			r := *w.slot(w.head)
			w.sum.sub(w.digest(r, w.runs[w.past].stamp))
			w.t.remove(w.t.hash(w.t.key(r)), r)
			w.head++
		}
	}
	if w.past > len(w.runs)/2 { // moving the rest is paid for by what went
		w.runs = append(w.runs[:0], w.runs[w.past:]...)
		w.past = 0
	}
	for len(w.queue) > 0 && w.head-w.base >= windowChunk {
		w.spare = w.queue[0]
		w.queue = append(w.queue[:0], w.queue[1:]...)
		w.base += windowChunk
	}
}

func (w *window) bytes() int { return w.t.bytes() + len(w.queue)*windowChunk*8 + cap(w.runs)*16 }

// windowWalk walks over a window's entries, the oldest first.
type windowWalk struct {
	w     *window
	place uint64 // of the entry after the one at hand
	run   int    // in runs
	left  uint64 // of that run
	r     ref    // 0: ahead of the first or behind the last
	stamp int64
}

func (w *window) walk() windowWalk { return windowWalk{w: w, place: w.head, run: w.past - 1} }

func (k *windowWalk) next() {
	if k.r = 0; k.place == k.w.tail {
		return
	}
	for k.left == 0 {
		k.run++
		k.left = k.w.runs[k.run].n
	}
	k.left--
	k.r, k.stamp = *k.w.slot(k.place), k.w.runs[k.run].stamp
	k.place++
}

// back makes the entry at hand the next one again.
func (k *windowWalk) back() {
	if k.r != 0 {
		k.place--
		k.left++
	}
}
