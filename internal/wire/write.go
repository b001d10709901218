package wire

// WriteResult answers a write on every transport: the body of the HTTP answer, the fields of a result frame.
type WriteResult struct {
	Position   string     `json:"position"`      // where the write is in the history; reads with _after=<position> see it
	Final      bool       `json:"final"`         // false with _ack=logged: durable, the outcome of each row is not known yet
	Ack        string     `json:"ack,omitempty"` // what the answer promises: durable, buffered or memory
	Accepted   int        `json:"accepted"`      // rows that took effect; with Final false, rows that were logged
	Duplicates int        `json:"duplicates"`    // rows recognised as seen before: no effect
	Rejected   []Rejected `json:"rejected"`      // rows refused, ascending by index; never null
}

// Rejected is one refused row of a request.
type Rejected struct {
	Index int      `json:"index"` // of the row in the request, from 0
	Error *Problem `json:"error"`
}
