package flow

// Stats is what an engine holds and has done. Rows and errors are of now, counters run since New.
type Stats struct {
	Seq           uint64
	Stamp         int64
	Tables        []TableStats // in the order of the program
	Views         []ViewStats
	Seen          int // client-made keys remembered
	SeenBytes     int
	Requests      int // idempotency keys remembered
	RequestsBytes int
	Bytes         int // of all state together
}

// TableStats is one table.
type TableStats struct {
	Relation int
	Name     string
	Records  uint64 // that reached the table, refused ones included
	Rows     int64  // kept; 0 for tables that are not kept
	Bytes    int
}

// ViewStats is one view.
type ViewStats struct {
	Relation  int
	Name      string
	Rows      int64
	Bytes     int             // of its operators and its sink
	Errors    int64           // rows and groups that are missing because an expression fails on them
	Reasons   []ErrorReason   // the newest first, at most eight; some of these rows may have gone since
	Operators []OperatorStats // from the scan to the root
}

// OperatorStats is one operator of a view.
type OperatorStats struct {
	Name  string
	In    uint64 // rows that came in, removals included
	Out   uint64
	Bytes int
}

// Stats returns the engine's figures. It must not run at the same time as Apply.
func (e *Engine) Stats() Stats {
	s := Stats{Seq: e.seq, Stamp: e.stamp, Seen: e.seen.t.n, SeenBytes: e.seen.bytes(), Requests: e.requests.t.n, RequestsBytes: e.requests.bytes()}
	s.Bytes = s.SeenBytes + s.RequestsBytes
	for i, t := range e.tables {
		ts := TableStats{Relation: t.rel.ID, Name: t.rel.Name, Records: t.in, Rows: t.count}
		if t.kept {
			ts.Bytes = t.rows.bytes()
		}
		if k := e.sinks[i]; k != nil {
			ts.Bytes += k.bytes()
			if !k.quiet {
				ts.Rows = k.rows
			}
		}
		s.Bytes += ts.Bytes
		s.Tables = append(s.Tables, ts)
	}
	for _, v := range e.views {
		vs := v.stats()
		s.Bytes += vs.Bytes
		s.Views = append(s.Views, vs)
	}
	return s
}

func (v *view) stats() ViewStats {
	s := ViewStats{Relation: v.rel.ID, Name: v.rel.Name, Rows: v.sink.rows, Bytes: v.sink.bytes(), Errors: v.errors.rows, Reasons: v.errors.reasons()}
	for i := range v.steps {
		st := &v.steps[i]
		o := OperatorStats{Name: st.name(), In: st.in, Out: st.out, Bytes: st.bytes()}
		s.Bytes += o.Bytes
		s.Operators = append(s.Operators, o)
	}
	return s
}

// SeenBytes returns the memory that remembering keys takes: ingest answers busy before it passes its limit. Safe for
// concurrent use; as of the last batch.
func (e *Engine) SeenBytes() int64 { return e.seenMemory.Load() }
