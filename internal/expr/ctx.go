package expr

import (
	"time"

	"laaster/internal/change"
)

// Ctx is what an expression may see, and its scratch memory. The zero value is ready. Not safe for concurrent use; one
// per goroutine, reused from row to row.
type Ctx struct {
	Row     change.Row                               // the input row, under the layout that was given to Compile
	Now     int64                                    // now(): microseconds since 1970 UTC
	Subject []byte                                   // auth_subject()
	Role    []byte                                   // auth_role()
	Claim   func(path string) (text string, ok bool) // auth_claim(); nil: the caller has none

	scratch []byte                    // bytes of produced values since Reset
	stack   []change.Value            // arguments of calls with many arguments, elements of arrays
	work    int                       // matching since the last Bound
	most    int                       // of work; 0: any
	slot    int                       // where in stack the operands of the innermost comparison with an array are
	regexps map[string]*pattern       // of patterns that are not constants
	zones   map[string]*time.Location // of names that are not constants
}

// keepScratch is how much scratch memory survives Reset; more is given back, so that one huge value is not kept for ever.
const keepScratch = 1 << 20

// keepStack is how many values of the stack are kept in the same way.
const keepStack = 1 << 14

// Reset takes back the memory of all values produced since the last Reset. Call it between rows.
func (c *Ctx) Reset() {
	if cap(c.scratch) > keepScratch {
		c.scratch = nil
	}
	c.scratch = c.scratch[:0]
	if cap(c.stack) > keepStack {
		c.stack = nil
	}
}

// Func computes an expression for the row in c. The error is an *EvalError. The Value's bytes may alias the row, the
// expression's constants or c's scratch memory: they are valid until c.Reset or until the row is reused.
type Func func(c *Ctx) (change.Value, error)

// made returns the bytes appended to the scratch memory since it had length from. Growing moves later bytes only: what was
// handed out before stays where it was.
func (c *Ctx) made(from int) change.Value {
	return change.Value{B: c.scratch[from:len(c.scratch):len(c.scratch)]}
}
