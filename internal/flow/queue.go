package flow

import (
	"encoding/binary"
	"fmt"

	"laaster/internal/change"
)

// fifo is a queue of words. A word is named by its place, which is counted from the first one ever pushed.
type fifo struct {
	store      pages
	head, tail uint64 // places of the oldest word, and after the newest
	spare      []byte // a page to use again
}

const fifoPage = pageBytes / 8 // words of a page

func (q *fifo) len() uint64 { return q.tail - q.head }

// page returns the index of the page with a place.
func (q *fifo) page(place uint64) uint32 { return uint32(place/fifoPage) - q.store.first }

func (q *fifo) at(place uint64) uint64 {
	return binary.NativeEndian.Uint64(q.store.bytes(q.page(place))[place%fifoPage*8:])
}

func (q *fifo) set(place, v uint64) {
	binary.NativeEndian.PutUint64(q.store.edit(q.page(place))[place%fifoPage*8:], v)
}

func (q *fifo) push(v uint64) {
	if q.tail%fifoPage == 0 {
		if q.head == q.tail { // there are no pages
			q.store.first = uint32(q.tail / fifoPage)
		}
		if q.spare == nil {
			q.spare = make([]byte, pageBytes)
		}
		q.store.put(q.store.grow(), q.spare, pageBytes)
		q.spare = nil
	}
	l := &q.store.list[len(q.store.list)-1]
	if !l.dirty {
		q.store.touch(uint32(len(q.store.list)) - 1)
	}
	binary.NativeEndian.PutUint64(l.data[q.tail%fifoPage*8:], v)
	q.tail++
}

// pop takes the n oldest words out.
func (q *fifo) pop(n uint64) {
	last := q.head / fifoPage
	for q.head += n; last < q.head/fifoPage; last++ {
		if l := &q.store.list[0]; l.flight == nil {
			q.spare = l.data[:cap(l.data)]
		}
		q.store.shift()
	}
	if len(q.spare) == 0 {
		q.spare = nil
	}
}

// meta implements [paged]. The words of a page that are not used any more, or not yet, are stored too.
func (q *fifo) meta(_ uint32, dst []byte) []byte { return dst }

// adopt implements [paged].
func (q *fifo) adopt(i uint32, meta []byte) error {
	if l := &q.store.list[i]; len(meta) != 0 || l.size != pageBytes || l.used != pageBytes {
		return errMeta
	}
	return nil
}

// adopted checks that all pages are there.
func (q *fifo) adopted() error {
	if q.head > q.tail || q.tail > fifoPage<<32 {
		return fmt.Errorf("a queue from %d to %d", q.head, q.tail)
	}
	return q.store.complete((q.tail+fifoPage-1)/fifoPage - q.head/fifoPage)
}

// complete reports pages that are missing or too many.
func (p *pages) complete(n uint64) error {
	if uint64(len(p.list)) != n {
		return fmt.Errorf("there are %d pages where %d were expected", len(p.list), n)
	}
	for i := range p.list {
		if p.list[i].size == 0 {
			return fmt.Errorf("page %d is missing", i)
		}
	}
	return nil
}

// stamps are the stamps of the entries of a queue, run-length encoded. The runs between the oldest one and the newest one, which are at hand, are two
// words each.
type stamps struct {
	oldest, newest runOf // n is 0 when there is none
	between        fifo
}

type runOf struct {
	stamp int64
	n     uint64
}

// push notes an entry that came last.
func (s *stamps) push(stamp int64) {
	switch {
	case s.newest.n > 0 && s.newest.stamp == stamp:
		s.newest.n++
	case s.newest.n > 0:
		s.between.push(uint64(s.newest.stamp))
		s.between.push(s.newest.n)
		s.newest = runOf{stamp, 1}
	case s.oldest.n > 0 && s.oldest.stamp == stamp:
		s.oldest.n++
	default:
		s.newest = runOf{stamp, 1}
	}
}

// first returns the stamp of the oldest entry; never when there is none.
func (s *stamps) first() int64 {
	if s.oldest.n == 0 {
		switch {
		case s.between.len() > 0:
			at := s.between.head
			s.oldest = runOf{int64(s.between.at(at)), s.between.at(at + 1)}
			s.between.pop(2)
		case s.newest.n > 0:
			s.oldest, s.newest = s.newest, runOf{}
		default:
			return never
		}
	}
	return s.oldest.stamp
}

// pop takes out the oldest entry, whose stamp first returned.
func (s *stamps) pop() { s.oldest.n-- }

// runs returns how many runs there are.
func (s *stamps) runs() int {
	n := int(s.between.len() / 2)
	if s.oldest.n > 0 {
		n++
	}
	if s.newest.n > 0 {
		n++
	}
	return n
}

// run returns one of the runs, counted from the oldest.
func (s *stamps) run(i int) runOf {
	if s.oldest.n > 0 {
		if i == 0 {
			return s.oldest
		}
		i--
	}
	if at := s.between.head + 2*uint64(i); at < s.between.tail {
		return runOf{int64(s.between.at(at)), s.between.at(at + 1)}
	}
	return s.newest
}

// waiting counts the entries of until or before, as far as limit.
func (s *stamps) waiting(until, limit int64) (n int64) {
	for i := 0; i < s.runs() && n <= limit; i++ {
		r := s.run(i)
		if r.stamp > until {
			break
		}
		n += int64(r.n)
	}
	return n
}

func (s *stamps) bytes() int { return 16 * s.runs() }

// rowQueue holds rows in the order in which they came, four bytes more for each: first in, first out.
type rowQueue struct {
	store  pages
	at     int // in the first page: the oldest row
	spare  []byte
	stamps stamps
	n      int64
	size   int // of the rows
	sum    sum128
}

func (q *rowQueue) push(row change.Row, stamp int64) {
	need := uint32(4 + len(row))
	last := uint32(len(q.store.list)) - 1
	if len(q.store.list) == 0 || q.store.list[last].size-q.store.list[last].used < need {
		last = q.store.grow()
		page := q.spare
		if q.spare = nil; len(page) < int(need) {
			page = make([]byte, max(pageBytes, need))
		}
		q.store.put(last, page, 0)
	}
	data := q.store.edit(last)
	l := &q.store.list[last]
	binary.LittleEndian.PutUint32(data[l.used:], uint32(len(row)))
	copy(data[l.used+4:], row)
	l.used += need
	q.stamps.push(stamp)
	q.n++
	q.size += int(need)
	q.sum.add(queueDigest(row, stamp))
}

func queueDigest(row change.Row, stamp int64) sum128 {
	return hash128(domainQueue+uint64(stamp)*mixA, row)
}

// due reports whether the oldest row came at until or before.
func (q *rowQueue) due(until int64) bool { return q.n > 0 && q.stamps.first() <= until }

// pop takes the oldest row, of which there must be one, out. It is valid until the next push.
func (q *rowQueue) pop() change.Row {
	if l := &q.store.list[0]; q.at == int(l.used) {
		if l.flight == nil && l.size == pageBytes && cap(l.data) > 0 {
			q.spare = l.data[:l.size]
		}
		q.store.shift()
		q.at = 0
	}
	b := q.store.bytes(0)[q.at:]
	n := int(binary.LittleEndian.Uint32(b))
	q.at += 4 + n
	q.n--
	q.size -= 4 + n
	row := change.Row(b[4 : 4+n : 4+n])
	q.sum.sub(queueDigest(row, q.stamps.first()))
	q.stamps.pop()
	return row
}

// waiting counts the rows that came at until or before, as far as limit.
func (q *rowQueue) waiting(until, limit int64) int64 { return q.stamps.waiting(until, limit) }

// first returns the stamp of the oldest row; never when there is none.
func (q *rowQueue) first() int64 { return q.stamps.first() }

func (q *rowQueue) bytes() int { return q.size + q.stamps.bytes() }

// meta implements [paged].
func (q *rowQueue) meta(_ uint32, dst []byte) []byte { return dst }

// adopt implements [paged].
func (q *rowQueue) adopt(i uint32, meta []byte) error {
	if len(meta) != 0 || q.store.list[i].size < pageBytes {
		return errMeta
	}
	return nil
}

// adopted checks that all pages are there.
func (q *rowQueue) adopted(n uint64) error {
	if err := q.store.complete(n); err != nil {
		return err
	}
	if q.n < 0 || q.at < 0 || n == 0 && q.n > 0 || n > 0 && q.at > int(q.store.list[0].used) {
		return fmt.Errorf("a queue of %d rows from byte %d on", q.n, q.at)
	}
	return nil
}
