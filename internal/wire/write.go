package wire

import (
	"io"
	"strconv"
)

// WriteResult answers a write on every transport: the body of the HTTP answer, the fields of a result frame.
type WriteResult struct {
	Position   string     `json:"position"`      // where the write is in the history; reads with _after=<position> see it
	Final      bool       `json:"final"`         // false with _ack=logged: durable, the outcome of each row is not known yet
	Ack        string     `json:"ack,omitempty"` // what the answer promises: durable, buffered or memory
	Accepted   int        `json:"accepted"`      // rows that took effect; with Final false, rows that were logged
	Duplicates int        `json:"duplicates"`    // rows recognised as seen before: no effect
	Rejected   []Rejected `json:"rejected"`      // rows refused, ascending by index; never null
}

// Rejected is one refused row of a request.
type Rejected struct {
	Index int      `json:"index"` // of the row in the request, from 0
	Error *Problem `json:"error"`
}

// Brief returns the problem of a refused row without words: of a request with very many of them, only the first have some.
func Brief(c Code) *Problem {
	p := NewProblem(c, "")
	p.Type, p.Title, p.Retry = "", "", ""
	return p
}

// append appends the refusal: a brief one as its status and code.
func (x *Rejected) append(dst []byte) []byte {
	dst = strconv.AppendInt(append(dst, `{"index":`...), int64(x.Index), 10)
	dst = append(dst, `,"error":`...)
	if p := x.Error; p.Title == "" {
		dst = strconv.AppendInt(append(dst, `{"status":`...), int64(p.Status), 10)
		dst = append(append(append(dst, `,"code":"`...), p.Code...), `"}`...)
	} else {
		dst = appendJSON(dst, p)
	}
	return append(dst, '}')
}

// writePiece is about how many bytes of a result are made before they are written.
const writePiece = 16 << 10

// WriteTo writes the result as JSON, a long one piece by piece.
func (r *WriteResult) WriteTo(w io.Writer) (n int64, err error) {
	buf := append(r.appendHead(append(make([]byte, 0, 512), '{')), '[')
	for i := range r.Rejected {
		if i > 0 {
			buf = append(buf, ',')
		}
		if buf = r.Rejected[i].append(buf); len(buf) >= writePiece {
			m, err := w.Write(buf)
			if n += int64(m); err != nil {
				return n, err
			}
			buf = buf[:0]
		}
	}
	m, err := w.Write(append(buf, "]}\n"...))
	return n + int64(m), err
}
