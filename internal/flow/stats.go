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
	Producers     int // whose last sequence is remembered
	Bytes         int // of all state together
}

// TableStats is one table.
type TableStats struct {
	Relation int
	Name     string
	Records  uint64 // that reached the table, refused ones included
	Rows     int64  // kept; 0 for tables that are not kept
	Late     uint64 // rows that were behind the watermark when they came
	Bytes    int
}

// ViewStats is one view.
type ViewStats struct {
	Relation  int
	Name      string
	Rows      int64
	Bytes     int             // of its operators and its sink, operators that other views use too included
	Errors    int64           // rows and groups that are missing because an expression fails on them
	Late      int64           // rows that are missing because they came too late, see LateRelation
	Reasons   []ErrorReason   // of rows that are missing, for each operator the newest first, at most eight
	Operators []OperatorStats // each behind its inputs, the root last
	Stopped   string          // why it computes nothing more; empty: it does
}

// OperatorStats is one operator of a view.
type OperatorStats struct {
	Plan   Plan // of the program
	Name   string
	In     uint64 // rows that came in, removals included
	Out    uint64
	Bytes  int
	Nanos  int64 // time spent; 0 without Options.Clock
	Errors int64 // rows that its expressions failed on
	Views  []int // the relations of the views that use it: what several use is computed once
}

// Stats returns the engine's figures. It must not run at the same time as Apply.
func (e *Engine) Stats() Stats {
	s := Stats{Seq: e.seq, Stamp: e.stamp, Seen: e.seen.t.n, SeenBytes: e.seen.bytes(), Requests: e.requests.t.n, RequestsBytes: e.requests.bytes() + e.producers.bytes(),
		Producers: e.producers.t.n}
	keys, bytes := e.remembered()
	s.Seen, s.SeenBytes = s.Seen+keys, s.SeenBytes+bytes
	s.Bytes = s.SeenBytes + s.RequestsBytes
	for i, t := range e.tables {
		ts := TableStats{Relation: t.rel.ID, Name: t.rel.Name, Records: t.in, Rows: t.count}
		if t.wm != nil {
			ts.Late = t.wm.rows
		}
		if t.kept {
			ts.Bytes = t.rows.bytes()
		}
		if t.ttl != nil {
			ts.Bytes += t.ttl.bytes()
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
		s.Views = append(s.Views, vs)
	}
	s.Bytes += int(e.size)
	return s
}

func (v *view) stats() ViewStats {
	s := ViewStats{Relation: v.rel.ID, Name: v.rel.Name, Rows: v.sink.rows, Bytes: int(v.size()), Errors: v.failing(), Late: v.late.count}
	if v.stopped != nil {
		s.Stopped = v.stopped.Reason
	}
	for _, n := range v.steps {
		s.Reasons = append(s.Reasons, n.errors.reasons()...)
		o := OperatorStats{Plan: n.plan, Name: n.name(), In: n.inRows, Out: n.outRows, Bytes: int(n.size), Nanos: n.nanos, Errors: n.errors.rows}
		for _, u := range n.users {
			o.Views = append(o.Views, u.rel.ID)
		}
		s.Operators = append(s.Operators, o)
	}
	return s
}

// failing counts the rows that are missing because an expression fails on them in one of the view's steps.
func (v *view) failing() (rows int64) {
	for _, n := range v.steps {
		rows += n.errors.rows
	}
	return rows
}

// SeenBytes returns the memory that remembering keys takes: ingest answers busy before it passes its limit. Safe for
// concurrent use; as of the last batch.
func (e *Engine) SeenBytes() int64 { return e.seenMemory.Load() }
