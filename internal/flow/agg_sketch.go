package flow

import (
	"encoding/binary"
	"math/bits"

	"laaster/app"
	"laaster/internal/change"
)

// sketch is approx_count_distinct over values that never go: a HyperLogLog of 2^12 registers, which is off by 1.6 % on average. The
// state is the ref of a block, 0 until a value is there:
//
//	sum     8 bytes  the sum of 2^-register over all registers, in units of 2^-sketchRankMax
//	zeros   4 bytes  how many registers are 0
//	n       4 bytes  entries that follow, or sketchDense
//	        n entries of 3 bytes, ascending: the register's index and its value; or every register in 1 byte
//
// The hash is fixed, so that the result is a function of the values alone.
type sketch struct {
	t      app.Type
	slab   slab
	key    []byte
	linear []float64 // by the number of registers that are 0: how many values leave so many, on average
	spare  []byte
}

const (
	sketchBits     = 12
	sketchSize     = 1 << sketchBits
	sketchHead     = 16
	sketchDense    = 1<<32 - 1
	sketchSparse   = 512 // entries at most
	sketchRankMax  = 51  // the sum in these units fits 64 bits
	sketchConstant = 0.7213 / (1 + 1.079/sketchSize) * sketchSize * sketchSize
)

func newSketch(t app.Type) *sketch {
	s := &sketch{t: t, slab: newSlab(), linear: make([]float64, sketchSize+1)}
	for i := sketchSize - 1; i >= 0; i-- {
		s.linear[i] = s.linear[i+1] + float64(sketchSize)/float64(i+1)
	}
	return s
}

func (*sketch) fixed() int { return 8 }

func (s *sketch) add(_ ref, state []byte, v change.Value, _ int64) {
	s.key = change.AppendKey(s.key[:0], s.t, v, false, false)
	h := hash128(0, s.key).lo
	i, rank := uint16(h>>(64-sketchBits)), byte(min(bits.LeadingZeros64(h<<sketchBits|1)+1, sketchRankMax))
	r := ref(getInt(state))
	if r == 0 {
		r = s.slab.alloc(sketchHead)
		b := s.slab.edit(r)
		binary.LittleEndian.PutUint64(b, sketchSize<<sketchRankMax)
		binary.LittleEndian.PutUint32(b[8:], sketchSize)
		binary.LittleEndian.PutUint32(b[12:], 0)
		putInt(state, int64(r))
	}
	b := s.slab.at(r)
	n := binary.LittleEndian.Uint32(b[12:])
	if n == sketchDense {
		if old := b[sketchHead+int(i)]; rank > old {
			b = s.slab.edit(r)
			s.raise(b, old, rank)
			b[sketchHead+int(i)] = rank
		}
		return
	}
	s.addSparse(state, b, int(n), i, rank)
}

// raise keeps the sum and the zeros up to date when a register that held old is raised to rank.
func (s *sketch) raise(b []byte, old, rank byte) {
	sum := binary.LittleEndian.Uint64(b)
	binary.LittleEndian.PutUint64(b, sum-1<<(sketchRankMax-old)+1<<(sketchRankMax-rank))
	if old == 0 {
		binary.LittleEndian.PutUint32(b[8:], binary.LittleEndian.Uint32(b[8:])-1)
	}
}

func (s *sketch) addSparse(state, b []byte, n int, i uint16, rank byte) {
	list := b[sketchHead : sketchHead+3*n]
	lo, hi := 0, n
	for lo < hi {
		mid := (lo + hi) / 2
		if binary.LittleEndian.Uint16(list[3*mid:]) < i {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < n && binary.LittleEndian.Uint16(list[3*lo:]) == i {
		if old := list[3*lo+2]; rank > old {
			b = s.slab.edit(ref(getInt(state)))
			s.raise(b, old, rank)
			b[sketchHead+3*lo+2] = rank
		}
		return
	}
	b = s.slab.edit(ref(getInt(state)))
	s.raise(b, 0, rank)
	if n == sketchSparse {
		s.spread(state, i, rank)
		return
	}
	if old, size := sketchHead+3*n, sketchHead+3*n+3; !fits(old, size) {
		s.spare = append(s.spare[:0], b[:old]...)
		b = s.move(state, size)
		copy(b, s.spare)
	}
	list = b[sketchHead : sketchHead+3*n+3]
	copy(list[3*lo+3:], list[3*lo:])
	binary.LittleEndian.PutUint16(list[3*lo:], i)
	list[3*lo+2] = rank
	binary.LittleEndian.PutUint32(b[12:], uint32(n+1))
}

// spread goes from a list of entries to all registers.
func (s *sketch) spread(state []byte, i uint16, rank byte) {
	b := s.slab.at(ref(getInt(state)))
	s.spare = append(s.spare[:0], b[:sketchHead+3*sketchSparse]...)
	b = s.move(state, sketchHead+sketchSize)
	copy(b, s.spare[:12])
	binary.LittleEndian.PutUint32(b[12:], sketchDense)
	registers := b[sketchHead : sketchHead+sketchSize]
	clear(registers)
	for e := s.spare[sketchHead:]; len(e) > 0; e = e[3:] {
		registers[binary.LittleEndian.Uint16(e)] = e[2]
	}
	registers[i] = rank
}

// move gives the group another block.
func (s *sketch) move(state []byte, size int) []byte {
	s.slab.release(ref(getInt(state)))
	r := s.slab.alloc(size)
	putInt(state, int64(r))
	return s.slab.edit(r)
}

// result goes by the registers that are 0 as long as there are many of them. It is computed by additions and divisions alone, which are
// the same on every machine.
func (s *sketch) result(_ *exec, _ ref, state []byte) (change.Value, error) {
	r := ref(getInt(state))
	if r == 0 {
		return change.Int(0), nil
	}
	b := s.slab.at(r)
	estimate := sketchConstant / (float64(binary.LittleEndian.Uint64(b)) / (1 << sketchRankMax))
	if zeros := binary.LittleEndian.Uint32(b[8:]); zeros > 0 && estimate <= 2.5*sketchSize {
		estimate = s.linear[zeros]
	}
	return change.Int(int64(estimate + 0.5)), nil
}

func (s *sketch) free(_ ref, state []byte) {
	if r := ref(getInt(state)); r != 0 {
		s.slab.release(r)
	}
}

func (s *sketch) bytes() int { return s.slab.bytes }

func (s *sketch) state(k *keeper) { k.slab(&s.slab) }
