package change

// Epoch is one batch applied whole: everything that changed, at one position. The engine makes it and then never
// touches it again; all slices share one arena and are read-only for ever.
type Epoch struct {
	Seq      uint64
	Stamp    int64     // the batch's stamp, microseconds since 1970 UTC
	Deltas   []Delta   // the relations that changed, ascending; consolidated: a key appears once in its delta
	Outcomes []Outcome // one per entry of the batch, in order
	Stopped  []Stopped // views that this batch stopped, ascending by relation; mostly none
	Bytes    int       // memory held, for bounds
}

// Stopped is a view that passed a limit, or reads one that did: its rows stay as they are after this epoch's deltas.
type Stopped struct {
	Relation int    // index into flow.Program.Relations
	Reason   string // for people: the limit and what passed it
	Stack    string // where a fault was, for the server's log; not for clients
}

// Delta is what changed in one relation (a readable table or a view) in one epoch, ordered by key.
type Delta struct {
	Relation int // index into flow.Program.Relations
	Changes  []RowChange
}

// RowChange is one row before and after. Old is nil for a new row, New is nil for a row that left; both are encoded
// under the relation's layout and differ.
type RowChange struct {
	Key []byte // order-preserving key bytes, see AppendKey
	Old Row
	New Row
}

// Outcome is the final answer to one entry.
type Outcome struct {
	Accepted   uint32   // records that took effect (an Update or Delete counts the rows that it changed)
	Duplicates uint32   // records recognised as seen before
	Rejected   []Reject // records refused by the engine, ascending by Index
	Replayed   uint64   // when not 0: the whole request is a repeat, completely applied at this sequence, and the counts are the stored ones
}

// Reject is one refused record.
type Reject struct {
	Index  uint32 // of the record within its request
	Code   string // one of wire's codes: conflict, constraint, invalid_row, too_many, …
	Field  string // the column, when one is to blame
	Detail string // for people; names no value of another row
}
