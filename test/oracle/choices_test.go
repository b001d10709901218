package oracle

import "math/rand/v2"

// choices is where a generator takes its decisions from: a list, behind its end a source of random numbers, or else zeros.
type choices struct {
	list []uint32
	at   int
	rnd  *rand.Rand // nil: zeros behind the end of list

	keyed bool // all tables have keys, and no rows that leave by themselves
}

func randomChoices(seed uint64) *choices {
	return &choices{rnd: rand.New(rand.NewPCG(seed, 77))}
}

// n returns a number below k. 0 is the simplest choice.
func (c *choices) n(k int) int {
	if c.at == len(c.list) {
		v := uint32(0)
		if c.rnd != nil {
			v = c.rnd.Uint32()
		}
		c.list = append(c.list, v%uint32(k))
	}
	v := c.list[c.at] % uint32(k)
	c.at++
	return int(v)
}

// often is true in p of a hundred cases; the simple choice is false.
func (c *choices) often(p int) bool { return c.n(100) >= 100-p }

func pick[T any](c *choices, list ...T) T { return list[c.n(len(list))] }

// shrink returns a smaller list for which fails is still true, after at most budget trials.
func shrink(list []uint32, budget int, fails func([]uint32) bool) []uint32 {
	try := func(l []uint32) bool {
		if budget <= 0 {
			return false
		}
		budget--
		return fails(l)
	}
	for size := len(list) / 2; size > 0; size /= 2 {
		for from := 0; from+size <= len(list); {
			if l := append(append([]uint32{}, list[:from]...), list[from+size:]...); try(l) {
				list = l
			} else {
				from += size
			}
		}
	}
	for i := 0; i < len(list); i++ {
		for _, v := range []uint32{0, list[i] / 2} {
			if v == list[i] {
				continue
			}
			l := append([]uint32{}, list...)
			if l[i] = v; try(l) {
				list = l
				break
			}
		}
	}
	return list
}
