package expr

import (
	"encoding/binary"
	"fmt"

	"laaster/app"
	"laaster/internal/change"
)

// Compile turns an expression into a function over rows of layout in, which may be nil when the expression reads no column.
// It fails only on a node that this package's builders did not make.
func Compile(n *Node, in *change.Layout) (Func, error) {
	switch n.Kind {
	case KColumn:
		return compileColumn(n, in)
	case KConst:
		v := n.Value
		return func(*Ctx) (change.Value, error) { return v, nil }, nil
	case KNow:
		return func(c *Ctx) (change.Value, error) { return change.Int(c.Now), nil }, nil
	case KSubject:
		return func(c *Ctx) (change.Value, error) { return textOrNull(c.Subject), nil }, nil
	case KRole:
		return func(c *Ctx) (change.Value, error) { return textOrNull(c.Role), nil }, nil
	}
	args, err := compileAll(n.Args, in)
	if err != nil {
		return nil, err
	}
	switch n.Kind {
	case KCall:
		return compileCall(n, in, args)
	case KCast:
		return compileCast(n, args[0])
	case KAnd:
		return compileAnd(args), nil
	case KOr:
		return compileOr(args), nil
	case KNot:
		return compileNot(args[0]), nil
	case KIsNull:
		return compileIsNull(args[0]), nil
	case KDistinct:
		return compileDistinct(args[0], args[1], n.Args[0].Type), nil
	case KCase:
		if f, err := buildSimpleCase(n, in, args); f != nil || err != nil {
			return f, err
		}
		return compileCase(args), nil
	case KCoalesce:
		return compileCoalesce(args), nil
	case KIn:
		return compileIn(n, args), nil
	case KSure:
		return compileSure(args[0], args[1]), nil
	}
	return nil, fmt.Errorf("expr: node of kind %d cannot be compiled", n.Kind)
}

func compileAll(nodes []*Node, in *change.Layout) ([]Func, error) {
	fs := make([]Func, len(nodes))
	for i, n := range nodes {
		f, err := Compile(n, in)
		if err != nil {
			return nil, err
		}
		fs[i] = f
	}
	return fs, nil
}

func textOrNull(b []byte) change.Value {
	if b == nil {
		return change.Null()
	}
	return change.Bytes(b)
}

// column is where a column lies in a row.
type column struct {
	null int  // byte of the null bitmap
	mask byte // bit in it
	at   int  // fixed area
	prev int  // fixed area of the heap column before, or -1
	heap int  // start of the heap
}

func placeOf(in *change.Layout, i int) column {
	at, prev, heap := in.Place(i)
	return column{null: i >> 3, mask: 1 << (i & 7), at: at, prev: prev, heap: heap}
}

func (p *column) isNull(r change.Row) bool { return r[p.null]&p.mask != 0 }

// int64 reads an 8-byte column.
func (p *column) int64(r change.Row) int64 { return int64(binary.LittleEndian.Uint64(r[p.at:])) }

// int32 reads a 4-byte integer.
func (p *column) int32(r change.Row) int64 { return int64(int32(binary.LittleEndian.Uint32(r[p.at:]))) }

// bytes reads a heap column.
func (p *column) bytes(r change.Row) []byte {
	start := uint32(0)
	if p.prev >= 0 {
		start = binary.LittleEndian.Uint32(r[p.prev:])
	}
	end := binary.LittleEndian.Uint32(r[p.at:])
	return r[p.heap+int(start) : p.heap+int(end) : p.heap+int(end)]
}

func compileColumn(n *Node, in *change.Layout) (Func, error) {
	if in == nil || n.Col < 0 || n.Col >= in.Columns() || in.Type(n.Col) != n.Type {
		return nil, fmt.Errorf("expr: no column %d of type %s in the layout", n.Col, n.Type)
	}
	p := placeOf(in, n.Col)
	switch n.Type {
	case app.Bool:
		return func(c *Ctx) (change.Value, error) {
			if p.isNull(c.Row) {
				return change.Null(), nil
			}
			return change.Int(int64(c.Row[p.at])), nil
		}, nil
	case app.Int4, app.Date:
		return func(c *Ctx) (change.Value, error) {
			if p.isNull(c.Row) {
				return change.Null(), nil
			}
			return change.Int(p.int32(c.Row)), nil
		}, nil
	case app.Int8, app.Float8, app.Timestamptz, app.Timestamp:
		return func(c *Ctx) (change.Value, error) {
			if p.isNull(c.Row) {
				return change.Null(), nil
			}
			return change.Int(p.int64(c.Row)), nil
		}, nil
	case app.UUID, app.Interval:
		return func(c *Ctx) (change.Value, error) {
			if p.isNull(c.Row) {
				return change.Null(), nil
			}
			return change.Bytes(c.Row[p.at : p.at+16 : p.at+16]), nil
		}, nil
	}
	return func(c *Ctx) (change.Value, error) {
		if p.isNull(c.Row) {
			return change.Null(), nil
		}
		return change.Bytes(p.bytes(c.Row)), nil
	}, nil
}

func compileCall(n *Node, in *change.Layout, args []Func) (Func, error) {
	switch f := n.Func; {
	case f.build != nil:
		return f.build(n, in, args)
	case f.fn0 != nil:
		return Func(f.fn0), nil
	case f.fn1 != nil:
		return strict1(f.fn1, args[0]), nil
	case f.fn2 != nil:
		return strict2(f.fn2, args[0], args[1]), nil
	case f.fn3 != nil:
		return strict3(f.fn3, args[0], args[1], args[2]), nil
	case f.fnN != nil:
		return strictN(f.fnN, args), nil
	case f.fnAll != nil:
		return all(f.fnAll, args), nil
	}
	return nil, fmt.Errorf("expr: function %s has no implementation", n.Func.Signature())
}

func strict1(f func(c *Ctx, a change.Value) (change.Value, error), x Func) Func {
	return func(c *Ctx) (change.Value, error) {
		a, err := x(c)
		if err != nil || a.Null {
			return a, err
		}
		return f(c, a)
	}
}

func strict2(f func(c *Ctx, a, b change.Value) (change.Value, error), x, y Func) Func {
	return func(c *Ctx) (change.Value, error) {
		a, err := x(c)
		if err != nil || a.Null {
			return a, err
		}
		b, err := y(c)
		if err != nil || b.Null {
			return b, err
		}
		return f(c, a, b)
	}
}

func strict3(f func(c *Ctx, a, b, d change.Value) (change.Value, error), x, y, z Func) Func {
	return func(c *Ctx) (change.Value, error) {
		a, err := x(c)
		if err != nil || a.Null {
			return a, err
		}
		b, err := y(c)
		if err != nil || b.Null {
			return b, err
		}
		d, err := z(c)
		if err != nil || d.Null {
			return d, err
		}
		return f(c, a, b, d)
	}
}

func strictN(f func(c *Ctx, args []change.Value) (change.Value, error), args []Func) Func {
	return func(c *Ctx) (change.Value, error) {
		base := len(c.stack)
		for _, x := range args {
			v, err := x(c)
			if err != nil || v.Null {
				c.stack = c.stack[:base]
				return v, err
			}
			c.stack = append(c.stack, v)
		}
		v, err := f(c, c.stack[base:])
		c.stack = c.stack[:base]
		return v, err
	}
}

// all evaluates every argument, NULL or not.
func all(f func(c *Ctx, args []change.Value) (change.Value, error), args []Func) Func {
	return func(c *Ctx) (change.Value, error) {
		base := len(c.stack)
		for _, x := range args {
			v, err := x(c)
			if err != nil {
				c.stack = c.stack[:base]
				return v, err
			}
			c.stack = append(c.stack, v)
		}
		v, err := f(c, c.stack[base:])
		c.stack = c.stack[:base]
		return v, err
	}
}
