package flow

import (
	"fmt"
	"time"
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
	if o.Window < 0 || o.MaxMatches < 0 {
		return fmt.Errorf("flow: Options.Window (%s) and MaxMatches (%d) must not be negative", o.Window, o.MaxMatches)
	}
	return nil
}
