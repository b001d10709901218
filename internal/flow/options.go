package flow

import (
	"cmp"
	"fmt"
	"time"

	"laaster/internal/change"
)

// Options are what an engine needs to know beside its program. The zero value of each field stands for its default.
type Options struct {
	// Definition lists the relations of a definition document of the log, as Program.Catalog is one, so that the engine
	// learns since when each has been what it is now. Called at New and at each definition entry. Nil: births are not
	// known, see [Engine.Birth].
	Definition func(doc []byte) ([]RelationVersion, error)
	// Window is how long, in logged time, client-made primary keys of tables that are not kept and idempotency keys of
	// requests are remembered. Default 10 minutes.
	Window time.Duration
	// MaxMatches is how many rows one update or delete may match; one that matches more changes nothing and is refused
	// with too_many. Default 10,000.
	MaxMatches int
	// MaxViewBytes is how much state a view may have, the steps that it shares with others included: one that passes it stops, see
	// [Engine.Stopped]. MaxBytes is how much all views may have together: the largest stops. Both count what is stored as bytes, a
	// function of the state, not the process's memory. Defaults 4 GiB and 16 GiB.
	MaxViewBytes, MaxBytes int64
	// MaxJoinRows is how many rows of one side of a join may have the same key: a view with more stops. Default 1,000,000.
	MaxJoinRows int64
	// Resident is how many bytes of state [Load] reads at once; the rest is read when it is needed. Default 0: nothing is read ahead.
	Resident int64
	// Rows calls yield for each row of a readable table without a primary key, as the readers' store had them at the checkpoint, without _n, in
	// any order, until it returns false: what [LoadTables] begins such tables with. Nil: they begin empty.
	Rows func(table string, yield func(row change.Row) bool) error
	// Clock returns a time in nanoseconds that only grows; Stats then says how long each step took. It decides nothing else. Nil: nobody
	// measures.
	Clock func() int64

	guard bool // for tests: Freeze panics when a page of the state changed that nobody marked, see [pages]
}

// RelationVersion is one table or view as one definition has it. Hash changes when the relation's rows or columns may
// differ from those of another definition.
type RelationVersion struct {
	Name string
	Hash string
}

func (o *Options) defaults() error {
	if o.Window == 0 {
		o.Window = 10 * time.Minute
	}
	if o.MaxMatches == 0 {
		o.MaxMatches = 10_000
	}
	o.MaxViewBytes = cmp.Or(o.MaxViewBytes, 4<<30)
	o.MaxBytes = cmp.Or(o.MaxBytes, 16<<30)
	o.MaxJoinRows = cmp.Or(o.MaxJoinRows, 1_000_000)
	if o.MaxViewBytes < 0 || o.MaxBytes < 0 || o.MaxJoinRows < 0 {
		return fmt.Errorf("flow: Options.MaxViewBytes (%d), MaxBytes (%d) and MaxJoinRows (%d) must not be negative", o.MaxViewBytes, o.MaxBytes, o.MaxJoinRows)
	}
	if o.Window < 0 || o.MaxMatches < 0 {
		return fmt.Errorf("flow: Options.Window (%s) and MaxMatches (%d) must not be negative", o.Window, o.MaxMatches)
	}
	return nil
}
