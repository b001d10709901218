package load

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// plan says which request changes which rows. Of the rows the first changing ones change: connection c owns c, c+conns, c+2·conns, …, goes through them in turn, batch
// changes a request, and request i leaves on connection i mod conns. So the changes of one row are numbered 1, 2, 3, … in the order in
// which they take effect, and a number tells its request.
type plan struct {
	rows, changing, conns, batch int
	pad                          string // what fills a row: its text, without the quotes
}

// newPlan bounds the connections so that no request changes a row twice.
func newPlan(rows, changing, conns, batch, rowBytes int) plan {
	return plan{rows: rows, changing: changing, batch: batch, conns: min(conns, max(1, changing/batch)), pad: strings.Repeat("x", max(1,
		rowBytes-len(`{"id":123,"n":12345,"pad":""}`)))}
}

// owned returns how many rows a connection has.
func (p *plan) owned(conn int) int { return (p.changing - conn + p.conns - 1) / p.conns }

// change returns the row and the number of change j of request i.
func (p *plan) change(i, j int) (row, number int) {
	c, local := i%p.conns, i/p.conns*p.batch+j
	own := p.owned(c)
	return c + p.conns*(local%own), local/own + 1
}

// request returns which request carries change number of row.
func (p *plan) request(row, number int) int {
	c := row % p.conns
	local := (number-1)*p.owned(c) + row/p.conns
	return local/p.batch*p.conns + c
}

// body appends the rows of request i as JSON.
func (p *plan) body(b []byte, i int) []byte {
	b = append(b, '[')
	for j := range p.batch {
		if j > 0 {
			b = append(b, ',')
		}
		row, number := p.change(i, j)
		b = p.row(b, row, number)
	}
	return append(b, ']')
}

func (p *plan) row(b []byte, row, number int) []byte {
	b = strconv.AppendInt(append(b, `{"id":`...), int64(row), 10)
	b = strconv.AppendInt(append(b, `,"n":`...), int64(number), 10)
	return append(append(append(b, `,"pad":"`...), p.pad...), `"}`...)
}

// first returns a request with all rows at number 0: what is there before the load.
func (p *plan) first(from, to int) []byte {
	b := []byte{'['}
	for r := from; r < to; r++ {
		if r > from {
			b = append(b, ',')
		}
		b = p.row(b, r, 0)
	}
	return append(b, ']')
}

// tail is what follows the number in every row.
func (p *plan) tail() []byte { return []byte(`,"pad":"` + p.pad + `"}`) }

// rowsOf calls f for each row of a frame in turn: {"id":…,"n":…,"pad":"…"}. It returns an error for what is no such row: another text
// than was written.
func rowsOf(frame, tail []byte, f func(row, number int)) error {
	for {
		at := bytes.Index(frame, []byte(`{"id":`))
		if at < 0 {
			return nil
		}
		frame = frame[at+len(`{"id":`):]
		row, rest, ok := number(frame)
		if ok && bytes.HasPrefix(rest, []byte(`,"n":`)) {
			n, rest, ok := number(rest[len(`,"n":`):])
			if ok && bytes.HasPrefix(rest, tail) {
				f(row, n)
				frame = rest[len(tail):]
				continue
			}
		}
		return fmt.Errorf("a row is not as it was written: %.80q", frame)
	}
}

// number reads digits.
func number(b []byte) (n int, rest []byte, ok bool) {
	i := 0
	for i < len(b) && i < 18 && b[i]-'0' <= 9 {
		n = n*10 + int(b[i]-'0')
		i++
	}
	return n, b[i:], i > 0
}
