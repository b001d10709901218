package view

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"laaster/internal/change"
)

// pageMax is how many bytes a page of rows has at most, unless it holds a single row that is larger.
const pageMax = 4096

// page is rows ascending by key in one piece of memory, which the collector does not look into. It is stored as it is:
//
//	rows    each: length of the key (unsigned varint), key, row
//	starts  of each row in order: where it begins, two bytes, little-endian
//	count   of rows, two bytes, little-endian
type page []byte

// emptyPage is a page without rows.
func emptyPage() page { return page{0, 0} }

// rows are the rows of a page, to be read. The zero value has none.
type rows struct {
	all    []byte
	starts []byte
	n      int
}

func (p page) rows() rows {
	n := int(binary.LittleEndian.Uint16(p[len(p)-2:]))
	at := len(p) - 2 - 2*n
	return rows{p[:at:at], p[at : len(p)-2], n}
}

// begin returns where row i begins; that of row n is the end of all.
func (r *rows) begin(i int) int {
	if i >= r.n {
		return len(r.all)
	}
	return int(r.starts[2*i]) | int(r.starts[2*i+1])<<8
}

// keyLen returns how long the key of the row at the beginning of b is, and where it begins.
func keyLen(b []byte) (n, at int) {
	if b[0] < 0x80 {
		return int(b[0]), 1
	}
	long, w := binary.Uvarint(b)
	return int(long), w
}

func (r *rows) key(i int) []byte {
	b := r.all[r.begin(i):]
	n, at := keyLen(b)
	return b[at : at+n : at+n]
}

// at returns key and row of row i.
func (r *rows) at(i int) ([]byte, change.Row) {
	b := r.all[r.begin(i):r.begin(i+1)]
	n, at := keyLen(b)
	return b[at : at+n : at+n], change.Row(b[at+n : len(b) : len(b)])
}

// search returns the first row from row i on whose key is at or after key, and whether it is that key.
func (r *rows) search(key []byte, i int) (int, bool) {
	j := r.n
	for i < j {
		mid := int(uint(i+j) >> 1)
		if bytes.Compare(r.key(mid), key) < 0 {
			i = mid + 1
		} else {
			j = mid
		}
	}
	return i, i < r.n && bytes.Equal(r.key(i), key)
}

// check says what is wrong with a page that was stored: it must have n rows, ascending by key, none before from and each before until (nil: no bound).
func (p page) check(n int, from, until []byte) error {
	if len(p) < 2 || int(binary.LittleEndian.Uint16(p[len(p)-2:])) != n || len(p) < 2+2*n {
		return fmt.Errorf("a page of %d bytes does not hold %d rows", len(p), n)
	}
	r := p.rows()
	if n == 0 && len(r.all) > 0 || n > 0 && r.begin(0) != 0 {
		return errors.New("a page has bytes that are no row")
	}
	var last []byte
	for i := range n {
		if r.begin(i+1) <= r.begin(i) || r.begin(i+1) > len(r.all) {
			return fmt.Errorf("row %d of a page ends before it begins or beyond the page", i)
		}
		b := r.all[r.begin(i):r.begin(i+1)]
		size, w := binary.Uvarint(b)
		if w <= 0 || size > uint64(len(b)-w) {
			return fmt.Errorf("row %d of a page is shorter than its key", i)
		}
		key := b[w : w+int(size)]
		if i > 0 && bytes.Compare(last, key) >= 0 || i == 0 && bytes.Compare(key, from) < 0 {
			return fmt.Errorf("row %d of a page is not in the order of keys", i)
		}
		last = key
	}
	if n > 0 && until != nil && bytes.Compare(last, until) >= 0 {
		return errors.New("a page has rows that belong behind it")
	}
	return nil
}

// extended returns p with a row behind the others, which makes it size bytes long. p has room for that.
func (p page) extended(size int, key []byte, row change.Row) page {
	r := p.rows()
	p = p[:size]
	starts := p[size-2-2*(r.n+1):]
	copy(starts, r.starts)
	at := len(r.all)
	starts[2*r.n], starts[2*r.n+1] = byte(at), byte(at>>8)
	starts[2*r.n+2], starts[2*r.n+3] = byte(r.n+1), byte((r.n+1)>>8)
	copy(p[at+binary.PutUvarint(p[at:], uint64(len(key))):], key)
	copy(p[len(p)-len(starts)-len(row):], row)
	return p
}

// pageMaker collects rows and makes pages of them. It keeps its memory for the next time.
type pageMaker struct {
	all    []byte
	starts []int // and, for the last row, no end: that is len(all)
}

func (m *pageMaker) reset() { m.all, m.starts = m.all[:0], m.starts[:0] }

// size is how long a page of all rows is.
func (m *pageMaker) size() int { return len(m.all) + 2*len(m.starts) + 2 }

func (m *pageMaker) begin(i int) int {
	if i >= len(m.starts) {
		return len(m.all)
	}
	return m.starts[i]
}

func (m *pageMaker) key(i int) []byte {
	b := m.all[m.begin(i):]
	n, at := keyLen(b)
	return b[at : at+n]
}

// copy takes rows i to j-1 of r.
func (m *pageMaker) copy(r *rows, i, j int) {
	from, to := r.begin(i), r.begin(j)
	by := len(m.all) - from
	m.all = append(m.all, r.all[from:to]...)
	for ; i < j; i++ {
		m.starts = append(m.starts, r.begin(i)+by)
	}
}

func (m *pageMaker) add(key []byte, row change.Row) {
	m.starts = append(m.starts, len(m.all))
	m.all = binary.AppendUvarint(m.all, uint64(len(key)))
	m.all = append(append(m.all, key...), row...)
}

// merge takes the rows of r after changes, which are ascending by key, from row i on.
func (m *pageMaker) merge(r *rows, changes []change.RowChange) {
	next := 0
	for i := range changes {
		c := &changes[i]
		at, there := r.search(c.Key, next)
		m.copy(r, next, at)
		if c.New != nil {
			m.add(c.Key, c.New)
		}
		if next = at; there {
			next++
		}
	}
	m.copy(r, next, r.n)
}

// pageSize is how long the page of rows i to j-1 is.
func (m *pageMaker) pageSize(i, j int) int { return m.begin(j) - m.begin(i) + 2*(j-i) + 2 }

// appendPage appends the page of rows i to j-1.
func (m *pageMaker) appendPage(dst page, i, j int) page {
	from, to := m.begin(i), m.begin(j)
	dst = append(dst, m.all[from:to]...)
	for _, at := range m.starts[i:j] {
		dst = append(dst, byte(at-from), byte((at-from)>>8))
	}
	return append(dst, byte(j-i), byte((j-i)>>8))
}

// cuts returns where the rows are cut into pages: the first row of each page after the first. With full every page but the last is as full as it may be,
// else all are about as long.
func (m *pageMaker) cuts(full bool) []int {
	aim := pageMax
	if !full {
		pieces := (m.size() + pageMax - 1) / pageMax
		aim = m.size()/pieces + 1
	}
	var out []int
	first := 0
	for i := 1; i < len(m.starts); i++ {
		if m.pageSize(first, i+1) > pageMax || m.pageSize(first, i) >= aim {
			out = append(out, i)
			first = i
		}
	}
	return out
}

// separator returns a short key that is after a and not after b, where a is before b.
func separator(a, b []byte) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return string(b[:min(i+1, len(b))])
}
