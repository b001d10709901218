package push

// Stats is what the hub holds now and has done since the start.
type Stats struct {
	Connections, Subscriptions, Feeds, Shapes int // now
	FrameLogBytes                             int // memory of the frames kept for connections that are behind
	Frames, Bytes                             int64
	Conflated                                 int64 // runs merged for one connection
	Gaps                                      int64 // subscriptions that were told that history is gone
	SlowClosed                                int64 // connections closed because they did not read
	Slow                                      int   // connections that get fewer frames now, since their lines do not carry all
	Vanished                                  int64 // connections closed because they did not answer pings any more
	Lowered                                   int64 // times that a connection's rate was lowered for that reason
}

// Connections returns how many clients are connected live.
func (h *Hub) Connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.mu.conns)
}

// Stats counts.
func (h *Hub) Stats() Stats {
	t := &h.total
	st := Stats{Frames: t.frames.Load(), Bytes: t.bytes.Load(), Conflated: t.conflated.Load(), Gaps: t.gaps.Load(), SlowClosed: t.slow.Load(),
		Slow: int(t.slowNow.Load()), Vanished: t.vanished.Load(), Lowered: t.lowered.Load()}
	h.mu.Lock()
	defer h.mu.Unlock()
	st.Connections, st.Shapes, st.FrameLogBytes = len(h.mu.conns), len(h.mu.shapes), h.mu.frames
	for i := range h.mu.feeds {
		st.Feeds += len(h.mu.feeds[i].all)
		for _, f := range h.mu.feeds[i].all {
			st.Subscriptions += f.users
		}
	}
	return st
}

// report adds what happened since the last report to the metrics.
func (h *Hub) report(last *[6]int64) {
	st := h.Stats()
	m := h.metrics
	for i, x := range []struct {
		total int64
		to    interface{ Add(float64) }
	}{{st.Frames, m.Frames}, {st.Bytes, m.FrameBytes}, {st.Conflated, m.Conflated}, {st.Gaps, m.Gaps}, {st.SlowClosed + st.Vanished, m.SlowClients}, {st.Lowered, m.Lowered}} {
		if x.total > last[i] {
			x.to.Add(float64(x.total - last[i]))
			last[i] = x.total
		}
	}
}
