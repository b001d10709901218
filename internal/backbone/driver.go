package backbone

import (
	"context"
	"fmt"
)

// Driver stores the batches of one shard as bytes under sequences 1, 2, 3, … Append is called by one goroutine at a time;
// the others may be called concurrently with it and with each other.
type Driver interface {
	// Append stores data as sequence after+1 and returns that, once it is as durable as Level says. data is the caller's
	// again when Append returns. Errors: a [*Fenced] when the last sequence is not after; an [*Unknown] when the data may
	// or may not be stored, now or a little later; a [*WriteError] when the store has failed and takes no more appends;
	// any other error when the data is certainly not stored. An Append that repeats an unknown one with the same after
	// returns only when the first can no longer succeed, or has.
	Append(ctx context.Context, data []byte, after uint64) (seq uint64, err error)

	// Read calls fn for each stored sequence of at least from, ascending, up to the last one as of the call. What the
	// store has lost is left out. data is valid during fn. An error of fn ends the read and is returned.
	Read(ctx context.Context, from uint64, fn func(seq uint64, data []byte) error) error

	// Bounds returns the first and the last sequence; 0 and 0 when nothing was ever stored. A store from which everything was
	// trimmed begins behind its last one.
	Bounds(ctx context.Context) (first, last uint64, err error)

	// Trim removes the sequences below before, which is at most the one after the last, and gives their space back, most of it at once. In a store
	// that never had anything it makes before the first one that Append stores. A before that is not behind the first changes nothing.
	// What a crash interrupts removes some of the oldest, or none; what is removed may be there again after a crash.
	Trim(ctx context.Context, before uint64) error

	// Size returns about how many bytes the stored batches take, with what the store adds.
	Size(ctx context.Context) (bytes int64, err error)

	// Level says what an append survives.
	Level() Level

	// Close releases the store. Appends that are under way end with an error. It may be called again.
	Close() error
}

// Level says what an acknowledged append survives. Every acknowledgement to a client names it.
type Level string

// The levels.
const (
	Memory     Level = "memory"     // nothing: it is gone with the process
	Buffered   Level = "buffered"   // the end of the process, not of the machine's power
	Durable    Level = "durable"    // a power cut: it was synced to the disk
	Replicated Level = "replicated" // the loss of a machine: it was synced on a majority
)

// Fenced says that an append was refused because the log does not end where its writer thinks.
type Fenced struct {
	After uint64 // the sequence that the append expected to follow
	Last  uint64 // the log's last sequence; 0 when the store did not say
}

// Error implements error.
func (e *Fenced) Error() string {
	return fmt.Sprintf("append after sequence %d refused: the log ends at %d", e.After, e.Last)
}

// Unknown says that an append got no answer: its batch may be in the log or not.
type Unknown struct{ Err error }

// Error implements error.
func (e *Unknown) Error() string { return "append without an answer: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Unknown) Unwrap() error { return e.Err }

// WriteError says that the store failed to write and takes no more appends until it is opened again.
type WriteError struct {
	Full bool // for want of space
	Err  error
}

// Error implements error.
func (e *WriteError) Error() string { return "the store cannot write: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }
