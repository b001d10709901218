package flow

import (
	"laaster/app"
	"laaster/internal/change"
)

// newBits returns the accumulator of bit_and, bit_or or bit_xor.
func newBits(f AggFunc, t app.Type, life lifetime) accumulator {
	switch {
	case f == BitXor || life.appends:
		return runningBits{f}
	case t == app.Int4:
		return &countedBits{or: f == BitOr, width: 32, slab: newSlab()}
	}
	return &countedBits{or: f == BitOr, width: 64, slab: newSlab()}
}

// runningBits is bit_xor, and bit_and and bit_or over values that never go: how many there are, and the result.
type runningBits struct{ f AggFunc }

func (runningBits) fixed() int { return 16 }

func (b runningBits) add(_ ref, state []byte, v change.Value, w int64) {
	n, have := getInt(state), getInt(state[8:])
	switch {
	case b.f == BitXor && w%2 != 0:
		have ^= v.N
	case b.f == BitOr:
		have |= v.N
	case b.f == BitAnd && n == 0:
		have = v.N
	case b.f == BitAnd:
		have &= v.N
	}
	putInt(state, n+w)
	putInt(state[8:], have)
}

func (runningBits) result(_ *exec, _ ref, state []byte) (change.Value, error) {
	if getInt(state) == 0 {
		return change.Null(), nil
	}
	return change.Int(getInt(state[8:])), nil
}

func (runningBits) free(ref, []byte) {}
func (runningBits) state(*keeper)    {}
func (runningBits) bytes() int       { return 0 }

// countedBits is bit_and and bit_or over values that may go again. The state is how many values there are and the ref of a block, 0
// until one is there, that counts the values with each bit set, in 8 bytes each.
type countedBits struct {
	or    bool
	width int
	slab  slab
}

func (*countedBits) fixed() int { return 16 }

func (b *countedBits) add(_ ref, state []byte, v change.Value, w int64) {
	putInt(state, getInt(state)+w)
	r := ref(getInt(state[8:]))
	if r == 0 {
		r = b.slab.alloc(8 * b.width)
		clear(b.slab.edit(r)[:8*b.width])
		putInt(state[8:], int64(r))
	}
	block := b.slab.edit(r)
	for i := range b.width {
		if v.N>>i&1 != 0 {
			putInt(block[8*i:], getInt(block[8*i:])+w)
		}
	}
	if getInt(state) == 0 {
		b.slab.release(r)
		putInt(state[8:], 0)
	}
}

func (b *countedBits) result(_ *exec, _ ref, state []byte) (change.Value, error) {
	n := getInt(state)
	if n == 0 {
		return change.Null(), nil
	}
	block := b.slab.at(ref(getInt(state[8:])))
	var v uint64
	for i := range b.width {
		if c := getInt(block[8*i:]); c == n || b.or && c > 0 {
			v |= 1 << i
		}
	}
	if b.width == 32 {
		return change.Int(int64(int32(v))), nil
	}
	return change.Int(int64(v)), nil
}

func (b *countedBits) free(_ ref, state []byte) {
	if r := ref(getInt(state[8:])); r != 0 {
		b.slab.release(r)
	}
}

func (b *countedBits) bytes() int { return b.slab.bytes }

func (b *countedBits) state(k *keeper) { k.slab(&b.slab) }
