package flow

import (
	"encoding/binary"
	"math/bits"

	"laaster/app"
	"laaster/internal/change"
)

// distinctSet is every count(DISTINCT x) of one argument, each with its own FILTER or none: a value of a group is looked up once for all
// of them. An entry of the table is named by the group's ref and the value; it holds
//
//	prev, next  8 bytes each, only when chained: refs of the group's other entries, so that they can be freed with it
//	seen        over an input that never takes rows back: a bit per member; else 8 bytes per member: how often the value is there
//
// The counts are in the group's state, where each member says.
type distinctSet struct {
	t       app.Type
	exact   bool // equal values are equal bytes
	column  int  // the argument, when it is a plain column, else -1
	value   int  // the argument in rowInputs.vals
	members []distinctMember
	appends bool
	chained bool
	chain   int // of the ref of the first entry in the group's state
	head    int // where seen begins
	size    int
	table   table
	key     []byte
}

type distinctMember struct {
	filter int // in rowInputs.pass; -1: none
	at     int // of the count in the group's state
}

// maxMembers is how many a set has at most: a bit each.
const maxMembers = 64

func newDistinctSet(t app.Type, life lifetime) *distinctSet {
	d := &distinctSet{t: t, exact: canonicalType(t), appends: life.appends, chained: life.closes, table: newTable()}
	if d.chained {
		d.head = 16
	}
	return d
}

// done is called when all members are there.
func (d *distinctSet) done() {
	d.size = d.head + 8*len(d.members)
	if d.appends {
		d.size = d.head + (len(d.members)+7)/8
	}
}

// add counts a value that is not NULL w times for each member whose filter let the row pass.
func (d *distinctSet) add(group ref, state []byte, v change.Value, w int64, pass []bool) {
	mask := uint64(0)
	for i := range d.members {
		if f := d.members[i].filter; f < 0 || pass[f] {
			mask |= 1 << i
		}
	}
	if mask == 0 {
		return
	}
	d.key = binary.LittleEndian.AppendUint64(d.key[:0], uint64(group))
	if d.exact {
		d.key = appendValue(d.key, d.t, v)
	} else {
		d.key = change.AppendKey(d.key, d.t, v, false, false)
	}
	h := d.table.hash(d.key)
	r := d.table.find(h, d.key)
	if r == 0 {
		r = d.insert(h, state)
	}
	if d.appends {
		d.see(r, state, mask)
	} else if d.count(d.table.edit(r)[d.head:], state, mask, w) {
		d.remove(h, r, state)
	}
}

func (d *distinctSet) see(r ref, state []byte, mask uint64) {
	var old uint64
	seen := d.table.value(r)[d.head:]
	for i := range seen {
		old |= uint64(seen[i]) << (8 * i)
	}
	fresh := mask &^ old
	if fresh == 0 {
		return
	}
	seen = d.table.edit(r)[d.head:]
	for i := range seen {
		seen[i] |= byte(mask >> (8 * i))
	}
	for ; fresh != 0; fresh &= fresh - 1 {
		at := state[d.members[bits.TrailingZeros64(fresh)].at:]
		putInt(at, getInt(at)+1)
	}
}

// count reports whether nothing is left of the entry.
func (d *distinctSet) count(seen, state []byte, mask uint64, w int64) (gone bool) {
	for ; mask != 0; mask &= mask - 1 {
		i := bits.TrailingZeros64(mask)
		before := getInt(seen[8*i:])
		putInt(seen[8*i:], before+w)
		step := int64(0)
		switch {
		case before == 0:
			step = 1
		case before+w == 0:
			step, gone = -1, true
		}
		at := state[d.members[i].at:]
		putInt(at, getInt(at)+step)
	}
	return gone && allZero(seen[:8*len(d.members)])
}

func allZero(b []byte) bool {
	for i := 0; i < len(b); i += 8 {
		if getInt(b[i:]) != 0 {
			return false
		}
	}
	return true
}

// insert makes an entry of d.key that nothing was seen of.
func (d *distinctSet) insert(h uint64, state []byte) ref {
	r := d.table.insert(h, d.key, d.size)
	clear(d.table.edit(r))
	if d.chained {
		first := ref(getInt(state[d.chain:]))
		putInt(d.table.edit(r)[8:], int64(first))
		if first != 0 {
			putInt(d.table.edit(first), int64(r))
		}
		putInt(state[d.chain:], int64(r))
	}
	return r
}

func (d *distinctSet) remove(h uint64, r ref, state []byte) {
	if d.chained {
		v := d.table.value(r)
		prev, next := getInt(v), getInt(v[8:])
		if prev != 0 {
			putInt(d.table.edit(ref(prev))[8:], next)
		} else {
			putInt(state[d.chain:], next)
		}
		if next != 0 {
			putInt(d.table.edit(ref(next)), prev)
		}
	}
	d.table.remove(h, r)
}

// free forgets the values of a group. Unless it is chained, none are left when a group is freed.
func (d *distinctSet) free(state []byte) {
	if !d.chained {
		return
	}
	for r := ref(getInt(state[d.chain:])); r != 0; {
		next := ref(getInt(d.table.value(r)[8:]))
		d.table.remove(d.table.hash(d.table.key(r)), r)
		r = next
	}
	putInt(state[d.chain:], 0)
}

func (d *distinctSet) bytes() int { return d.table.bytes() }

func (d *distinctSet) state(k *keeper) { k.table(&d.table) }
