package flow

// CacheStats is about state that is larger than memory: bytes of pages that are in memory, bytes of those that are stored only, and since the engine began how many pages
// were read because they were needed and how many were let go.
type CacheStats struct{ Resident, Stored, Loads, Evictions int64 }

// cache lets go of pages by a clock: its hand goes round all pages of the engine, structure after structure, until enough is free. What it comes to it parks: the
// page stays in memory, but looks as if it were not, so that the next who reads it takes the slow way and makes it an ordinary one again. A page that is still
// parked when the hand comes back was not read for a whole round and goes. So a hot page is kept and reading costs nothing more; it takes the slow way once per
// round of the hand.
type cache struct {
	structure, page  int // where the hand is
	loads, evictions int64
}

// trim lets go of pages until at most limit bytes of pages are resident, or none is left that is stored and did not change. Slices into pages
// that are let go stay what they were.
func (c *cache) trim(limit int64, state func(k *keeper)) CacheStats {
	var all []*pages
	s := CacheStats{}
	state(visiting(func(p *pages) {
		all = append(all, p)
		s.Resident += int64(p.held - p.out)
		s.Stored += int64(p.out)
		c.loads += p.loads
		p.loads = 0
	}))
	if c.structure >= len(all) {
		c.structure, c.page = 0, 0
	}
	// Two rounds, and the rest of the structure at which they began.
	for left := 2*len(all) + 1; left > 0 && s.Resident > limit; {
		p := all[c.structure]
		freed, pages, at := p.clock(c.page, s.Resident-limit)
		s.Resident -= freed
		s.Stored += freed
		c.evictions += pages
		if c.page = at; at >= len(p.list) {
			c.structure, c.page = (c.structure+1)%len(all), 0
			left--
		}
	}
	s.Loads, s.Evictions = c.loads, c.evictions
	return s
}

// Trim frees memory of pages that are stored and unchanged until at most limit bytes of pages are resident. On the engine's goroutine, between batches.
func (e *Engine) Trim(limit int64) CacheStats { return e.cache.trim(limit, e.state) }
