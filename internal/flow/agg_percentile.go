package flow

import (
	"encoding/binary"
	"fmt"
	"math"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// percentile is percentile_cont and percentile_disc: all values in order, as ordered has them. The state is how many there are.
type percentile struct {
	ordered
	cont     bool
	null     bool // the fraction is NULL
	fraction float64
}

func newPercentile(g *Agg, t app.Type) (accumulator, error) {
	f, err := compileOne(g.Arg, change.NewLayout(nil))
	if err != nil {
		return nil, err
	}
	if g.Arg.Type != app.Float8 {
		return nil, fmt.Errorf("the fraction of %s is of type %s", g.Func, g.Arg.Type)
	}
	v, err := f(&expr.Ctx{})
	if err != nil {
		return nil, err
	}
	p := &percentile{ordered: *newOrdered(t, g.Sort[0].Desc), cont: g.Func == PercentileCont, null: v.Null}
	p.fraction = v.Float()
	return p, nil
}

func (*percentile) fixed() int { return 8 }

func (p *percentile) add(group ref, state []byte, v change.Value, w int64) {
	putInt(state, getInt(state)+w)
	p.ordered.add(group, nil, v, w)
}

func (p *percentile) result(x *exec, group ref, state []byte) (change.Value, error) {
	n, f := getInt(state), p.fraction
	switch {
	case p.null:
		return change.Null(), nil
	case !(f >= 0 && f <= 1):
		return change.Null(), &expr.EvalError{Code: "numeric_value_out_of_range",
			Msg: fmt.Sprintf("percentile value %g is not between 0 and 1", f)}
	case n == 0:
		return change.Null(), nil
	}
	p.key = binary.BigEndian.AppendUint64(p.key[:0], uint64(group))
	first := p.tree.before(p.key)
	if !p.cont {
		return p.at(first + max(0, int64(math.Ceil(f*float64(n)))-1)), nil
	}
	place := f * float64(n-1)
	lo, hi := math.Floor(place), math.Ceil(place)
	a := p.at(first + int64(lo))
	if lo == hi {
		return a, nil
	}
	b, part := p.at(first+int64(hi)), place-lo
	if p.t == app.Float8 {
		return change.Float(a.Float() + float64(part*(b.Float()-a.Float()))), nil
	}
	var err error
	v := x.made(func(dst []byte) []byte {
		dst, err = expr.AppendIntervalBetween(dst, a.B, b.B, part)
		return dst
	})
	return v, err
}

// at returns the value that a place among those of all groups holds.
func (p *percentile) at(place int64) change.Value {
	c, _ := p.tree.at(place)
	return valueOf(p.t, c.value())
}

// mode is the most frequent value, of several the first in order. Beside the values in order, with their forms, it keeps for each group
// the values by how often they are there:
//
//	values   ref of the group, order key, bytes of the form → the value
//	counts   ref of the group, complement of how often (8 bytes), order key → nothing
type mode struct {
	t      app.Type
	desc   bool
	values tree
	counts tree
	key    []byte
	val    []byte
}

func newMode(t app.Type, desc bool) *mode {
	return &mode{t: t, desc: desc, values: newTree(), counts: newTree()}
}

func (*mode) fixed() int { return 0 }

func (m *mode) add(group ref, _ []byte, v change.Value, w int64) {
	m.key = binary.BigEndian.AppendUint64(m.key[:0], uint64(group))
	m.key = change.AppendKey(m.key, m.t, v, m.desc, false)
	plain := len(m.key)
	if !canonicalType(m.t) {
		m.key = append(m.key, v.B...)
	}
	m.val = appendValue(m.val[:0], m.t, v)
	before := m.values.add(m.key, m.val, w)
	if !canonicalType(m.t) {
		before = m.often(m.key[:plain]) - w
	}
	m.count(m.key[:plain], before, -1)
	m.count(m.key[:plain], before+w, 1)
}

// often returns how often the forms of one value are there.
func (m *mode) often(prefix []byte) (n int64) {
	for c := m.values.seek(prefix); c.valid() && len(c.key()) >= len(prefix) && string(c.key()[:len(prefix)]) == string(prefix); c.next() {
		n += c.weight()
	}
	return n
}

// count notes (w 1) or forgets (w -1) that a value is there n times.
func (m *mode) count(key []byte, n, w int64) {
	if n == 0 {
		return
	}
	m.val = append(m.val[:0], key[:8]...)
	m.val = binary.BigEndian.AppendUint64(m.val, ^uint64(n))
	m.val = append(m.val, key[8:]...)
	m.counts.add(m.val, nil, w)
}

func (m *mode) result(_ *exec, group ref, _ []byte) (change.Value, error) {
	m.key = binary.BigEndian.AppendUint64(m.key[:0], uint64(group))
	c := m.counts.seek(m.key)
	if !c.ofGroup(group) {
		return change.Null(), nil
	}
	m.key = append(m.key, c.key()[16:]...)
	c = m.values.seek(m.key)
	return valueOf(m.t, c.value()), nil
}

func (m *mode) free(group ref, _ []byte) {
	m.values.drop(group)
	m.counts.drop(group)
}

func (m *mode) bytes() int { return m.values.bytes() + m.counts.bytes() }

func (m *mode) state(k *keeper) {
	k.tree(&m.values)
	k.tree(&m.counts)
}
