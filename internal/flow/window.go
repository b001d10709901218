package flow

import "encoding/binary"

// window remembers keys, each with a value, for a span of logged time: first in, first out. An entry costs its key and
// about 40 bytes.
type window struct {
	t      table  // mark: the low 32 bits of the entry's place in the queue
	queue  fifo   // refs of the entries, in order of arrival
	stamps stamps // of the entries
	sum    sum128 // of all entries
	dom    uint64 // of sum
	skip   int    // leading bytes of each value that sum leaves out
	buf    []byte // scratch of hashing
}

func newWindow(domain uint64, skip int) window { return window{t: newTable(), dom: domain, skip: skip} }

// insert remembers a key that is not there, with room for a value of vlen bytes. The caller fills the value and then calls
// w.sum.add(w.digest(r, stamp)).
func (w *window) insert(h uint64, key []byte, vlen int, stamp int64) ref {
	r := w.t.insert(h, key, vlen)
	w.t.setMark(r, uint32(w.queue.tail))
	w.queue.push(uint64(r))
	w.stamps.push(stamp)
	return r
}

// resize gives r room for another value; the entry may move.
func (w *window) resize(h uint64, r ref, vlen int) ref {
	to := w.t.resize(h, r, vlen)
	if to != r {
		head := w.queue.head
		w.queue.set(head+uint64(w.t.mark(to)-uint32(head)), uint64(to))
	}
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
	for w.queue.len() > 0 {
		stamp := w.stamps.first()
		if stamp > until {
			return
		}
		r := ref(w.queue.at(w.queue.head))
		w.sum.sub(w.digest(r, stamp))
		w.t.remove(w.t.hash(w.t.key(r)), r)
		w.queue.pop(1)
		w.stamps.pop()
	}
}

// bytes is a function of what is remembered.
func (w *window) bytes() int { return w.t.bytes() + 8*w.t.n + w.stamps.bytes() }

// windowWalk walks over a window's entries, the oldest first.
type windowWalk struct {
	w     *window
	place uint64 // of the entry after the one at hand
	run   int    // of the entry at hand
	left  uint64 // of that run
	r     ref    // 0: ahead of the first or behind the last
	stamp int64
}

func (w *window) walk() windowWalk { return windowWalk{w: w, place: w.queue.head, run: -1} }

func (k *windowWalk) next() {
	if k.r = 0; k.place == k.w.queue.tail {
		return
	}
	if k.left == 0 {
		k.run++
		run := k.w.stamps.run(k.run)
		k.left, k.stamp = run.n, run.stamp
	}
	k.left--
	k.r = ref(k.w.queue.at(k.place))
	k.place++
}

// back makes the entry at hand the next one again.
func (k *windowWalk) back() {
	if k.r != 0 {
		k.place--
		k.left++
	}
}
