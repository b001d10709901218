package wire

// Subprotocol is the WebSocket subprotocol of the frames in this file.
const Subprotocol = "laaster.v1"

// Row is one row: column names to JSON values. Values that JavaScript's numbers cannot hold exactly are strings when the
// client asked for exact.
type Row map[string]any

// ClientFrame is a frame that a client sends: a JSON object with "type". Unknown members are refused.
type ClientFrame interface{ clientFrame() }

// HelloFrame opens the conversation: the first frame of every connection, once.
type HelloFrame struct {
	Token     string         `json:"token,omitempty"`     // whom the connection speaks for; left out: anon, or whom the request's header said
	Client    *Client        `json:"client,omitempty"`    // for the server's log
	Resume    string         `json:"resume,omitempty"`    // position: the default `from` of every subscription of this frame
	Subscribe []Subscription `json:"subscribe,omitempty"` // all start at one position
	Rate      float64        `json:"rate,omitempty"`      // most epoch frames per second that this connection wants, from 0.01; 0: no limit
	Every     bool           `json:"every,omitempty"`     // a frame for each epoch, as long as the client keeps up; not with rate
	Exact     bool           `json:"exact,omitempty"`     // bigint beyond 2^53 and numeric as strings
	Instance  string         `json:"instance,omitempty"`  // a secret of 16 to 64 bytes that the client made up and keeps over reconnects: it stays the same member of presence
}

// Client names the program that connects.
type Client struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Subscription asks for the rows of a view and then for every change of them.
type Subscription struct {
	ID     string `json:"id"`               // chosen by the client, unique on the connection, at most 64 bytes
	View   string `json:"view"`             // a view, or a table that may be read
	Filter string `json:"filter,omitempty"` // PostgREST query string, such as `votes=gt.10&or=(a.eq.1,b.is.null)`
	Select string `json:"select,omitempty"` // columns, comma-separated; key columns always travel
	Order  string `json:"order,omitempty"`  // with limit, what the first rows are; otherwise checked and the client's business: a live set of rows has no order
	Limit  *int   `json:"limit,omitempty"`  // only the first rows, at most 1000; rows enter and leave
	Offset *int   `json:"offset,omitempty"` // with limit: without so many before them, at most 10000
	From   Cursor `json:"from,omitzero"`    // position to go on from; null: no complete state here; left out: `hello.resume`
}

// Cursor is where a subscription goes on: nothing said, explicitly nothing (null), or a position.
type Cursor struct {
	Given    bool   // the member was there
	Position string // empty: null
}

// SubscribeFrame adds one subscription to a live connection.
type SubscribeFrame struct {
	Subscription
}

// UnsubscribeFrame ends a subscription. Nothing answers; frames that are on their way may still name the id.
type UnsubscribeFrame struct {
	ID string `json:"id"`
}

// WriteFrame inserts rows, or changes or deletes the rows that a filter selects: exactly one of rows, patch and delete. Writes
// of one connection take effect in the order in which they were sent.
type WriteFrame struct {
	ID         string  `json:"id"`                                            // names the answer
	Table      string  `json:"table"`                                         //
	Rows       RawJSON `json:"rows,omitempty" ts:"WireRow | WireRow[]"`       // one row or an array of rows
	Patch      RawJSON `json:"patch,omitempty" ts:"WireRow"`                  // columns to replace, with filter
	Delete     bool    `json:"delete,omitempty"`                              // true: delete, with filter
	Filter     string  `json:"filter,omitempty"`                              // PostgREST query string
	Key        string  `json:"key,omitempty"`                                 // idempotency key of the whole request
	Atomic     bool    `json:"atomic,omitempty"`                              // all rows or none
	OnConflict string  `json:"on_conflict,omitempty" ts:"'merge' | 'ignore'"` // "merge" or "ignore"
	Ack        string  `json:"ack,omitempty" ts:"'applied' | 'logged'"`       // "applied" (default) or "logged"
	Producer   string  `json:"producer,omitempty"`                            // with sequence, in place of key: who numbers its writes
	Sequence   uint64  `json:"sequence,omitempty"`                            // number of this write: 1, 2, 3, … of its producer and table
}

// RawJSON is JSON text that was checked to be valid and not too deep, and is otherwise left as it came. It aliases the frame.
type RawJSON []byte

// CallFrame invokes a command. Not supported yet.
type CallFrame struct {
	ID      string  `json:"id"`
	Command string  `json:"command"`
	Args    RawJSON `json:"args,omitempty"`
	Key     string  `json:"key,omitempty"`
}

// SignalFrame sets or clears (null) one row of a channel or of presence. Nothing answers but an error.
type SignalFrame struct {
	ID    string  `json:"id"`                         // names an error; may be used again
	Table string  `json:"table"`                      // the channel
	Key   RawJSON `json:"key,omitempty" ts:"WireRow"` // its key columns; those with a DEFAULT may be left out, and so may the whole when the connection is the key
	Value RawJSON `json:"value" ts:"WireRow | null"`  // its other columns; null: clear
}

// TokenFrame renews the token of a connection: another token of the same subject. Subscriptions go on, seeing what the new one allows. A token that is
// not believed is answered with an error and changes nothing; one of another subject ends the connection, to be opened anew.
type TokenFrame struct {
	Token string `json:"token"`
}

// PingFrame asks for a pong at once: for round trips and for aligning clocks.
type PingFrame struct {
	T float64 `json:"t"` // the client's clock in ms, comes back unchanged
}

// SeenFrame reports how long the way of one epoch to the screen took. The server adds it to a histogram.
type SeenFrame struct {
	Position string  `json:"position"`
	ShownMS  float64 `json:"shown_ms"` // ms from the epoch's `at` to the painted frame, on the aligned clock
}

func (*HelloFrame) clientFrame()       {}
func (*SubscribeFrame) clientFrame()   {}
func (*UnsubscribeFrame) clientFrame() {}
func (*WriteFrame) clientFrame()       {}
func (*CallFrame) clientFrame()        {}
func (*SignalFrame) clientFrame()      {}
func (*TokenFrame) clientFrame()       {}
func (*PingFrame) clientFrame()        {}
func (*SeenFrame) clientFrame()        {}

// WelcomeFrame answers hello.
type WelcomeFrame struct {
	Session    string  `json:"session"` // names the connection in the server's log
	Now        float64 `json:"now"`     // the server's clock, ms since 1970 UTC
	Log        string  `json:"log"`     // the log that positions belong to
	Limits     Limits  `json:"limits"`
	Connection string  `json:"connection,omitempty"` // what others see of the client in the column connection; left out: the app has no channels
}

// Limits is what one connection may do.
type Limits struct {
	FrameBytes       int `json:"frame_bytes"`       // size of a frame from the client
	Subscriptions    int `json:"subscriptions"`     // at one time
	WritesInFlight   int `json:"writes_in_flight"`  // not answered yet; more are refused with busy
	RowBytes         int `json:"row_bytes"`         // size of a row
	HeartbeatSeconds int `json:"heartbeat_seconds"` // a quiet connection gets an empty epoch this often

	SignalBytes      int `json:"signal_bytes,omitempty"`       // size of a row of a channel; left out: the app has no channels
	SignalsPerSecond int `json:"signals_per_second,omitempty"` // of one connection, for long; more wait, the newest of each key

	DedupeSeconds int `json:"dedupe_seconds,omitempty"` // idempotency keys are remembered for so long: a repeat that comes later may have a second effect
}

// SnapshotFrame is a page of the rows of a subscription, all pages at one position. The rows are complete when more is false.
type SnapshotFrame struct {
	ID       string   `json:"id"`
	Position string   `json:"position"`
	Key      []string `json:"key"`  // names of the key columns; empty: the view always has exactly one row
	Rows     []Row    `json:"rows"` // in the order of the key
	More     bool     `json:"more"`
}

// ResumedFrame says that nothing was missed: the rows that the client has at this position are right, and changes follow.
type ResumedFrame struct {
	ID       string   `json:"id"`
	Position string   `json:"position"`
	Key      []string `json:"key,omitempty"` // as in a snapshot
}

// GapFrame says that the history after the client's position is gone. A snapshot follows.
type GapFrame struct {
	ID       string `json:"id"`
	KeptFrom string `json:"kept_from"` // the oldest position that could have been resumed
}

// EpochFrame is what changed since the previous position, in all subscriptions of the connection together. Apply it whole.
type EpochFrame struct {
	Position string             `json:"position"`       // the rows of every complete subscription are now those of this position
	From     string             `json:"from,omitempty"` // several epochs merged: they began here, at or before the client's position; left out: one epoch
	At       float64            `json:"at"`             // the log's time of position, ms since 1970 UTC with microseconds
	Changes  map[string]Changes `json:"changes"`        // by subscription id; those without changes are left out
}

// Changes is what changed in one subscription. A key appears once per frame.
type Changes struct {
	Put []Row   `json:"put,omitempty"` // whole rows (of the selected columns), new or replacing
	Del [][]any `json:"del,omitempty"` // keys of rows that left: values in the order of the snapshot's key
}

// SignalsFrame is what changed in a subscription of a channel or of presence: the newest value of each key. It is outside of the positions.
type SignalsFrame struct {
	ID    string   `json:"id"`
	Full  bool     `json:"full,omitempty"`  // forget the rows before: what this frame and those up to the first without more put is all there is
	Key   []string `json:"key,omitempty"`   // with full: names of the key columns
	Put   []Row    `json:"put,omitempty"`   // whole rows (of the selected columns), new or replacing
	Del   [][]any  `json:"del,omitempty"`   // keys of rows that left: values in the order of key; a key that the client does not have is none of its business
	Count *int     `json:"count,omitempty"` // so many rows are there, too many to list: only their number is told until the next full without a count
	More  bool     `json:"more,omitempty"`  // the rest follows
}

// ResultFrame answers a write that was carried out, at least in part. Refused rows are listed; a write refused as a whole is
// answered with an error.
type ResultFrame struct {
	ID string `json:"id"`
	WriteResult
}

// FreshnessFrame says how far what the client sees can be trusted to be current.
type FreshnessFrame struct {
	ID     string  `json:"id,omitempty"`                                // left out: everything on this connection
	State  string  `json:"state" ts:"'live' | 'catching_up' | 'stale'"` // live, catching_up or stale
	Since  float64 `json:"since"`                                       // ms since 1970 UTC
	Reason string  `json:"reason,omitempty"`                            // of one view that stands still: why; its rows are the last good ones
}

// ErrorFrame answers a frame that was refused. Without an id it concerns the connection, and a goodbye may follow.
type ErrorFrame struct {
	ID    string   `json:"id,omitempty"` // of the subscription or write
	Error *Problem `json:"error"`
}

// GoodbyeFrame is the last frame before the server closes the connection.
type GoodbyeFrame struct {
	Code         Code   `json:"code"`           //
	Reason       string `json:"reason"`         //
	RetryAfterMS int    `json:"retry_after_ms"` // wait this long before connecting again; spread over clients
}

// PongFrame answers a ping.
type PongFrame struct {
	T   float64 `json:"t"`   // as it came
	Now float64 `json:"now"` // the server's clock, ms since 1970 UTC
}

// The states of a FreshnessFrame.
const (
	FreshLive       = "live"
	FreshCatchingUp = "catching_up"
	FreshStale      = "stale"
)
