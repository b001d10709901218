package checkpoint

import (
	"fmt"
	"log/slog"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/run"
	"laaster/internal/seal"
)

// Limits of the format. Whoever makes pages keeps to them; [Writer.Put] refuses what does not.
const (
	MaxMeta = 32       // bytes of a page's meta
	MaxPage = 64 << 20 // bytes of a page
	MaxPart = 1 << 30  // bytes of a root part, and of Header.Catalog
)

// ObjectID names one paged structure (a slab, the nodes of a tree, a relation's leaves) for ever: ids are never used again.
// 0 is no object.
type ObjectID uint64

// Header says what a checkpoint is of.
type Header struct {
	Log         change.LogID
	Shard       uint32
	Seq         uint64        // the last batch that is in it
	Digest      change.Digest // of that batch
	Stamp       int64         // of that batch
	Fingerprint [16]byte      // of the engine at that batch
	Plan        [16]byte      // of the program and the engine, see flow.Program.PlanHash
	Catalog     []byte        // the definition document in effect at Seq
}

// Options opens a store.
type Options struct {
	Dir   string // folder of the checkpoints, created when missing
	Copy  string // folder of the second copy, created when the first is made; "": none can be made
	Log   change.LogID
	Shard uint32
	Keys  *seal.Ring // nil: what is written is not encrypted. Files of before the keys stay readable
	Clock run.Clock  // nil: the machine's
	Slog  *slog.Logger
	Rate  int64   // bytes a second that a checkpoint, and beside it a copy, may write; 0: as fast as it can
	FS    disk.FS // nil: the machine's
	// ReadOnly looks at a folder without changing anything in it (a backup, the past): Begin and Copy are refused, and a zero Log takes the files
	// of whatever log.
	ReadOnly bool
}

// Info is one checkpoint that is there.
type Info struct {
	Header Header // of one that cannot be read only Log and Shard, or nothing
	Copy   bool   // it is in the folder of the second copy
	Bytes  int64  // of everything that it consists of
	File   string // its own file; older ones may belong to it
	Sealed bool   // that file is encrypted
	Made   int64  // microseconds since 1970 by the clock of who made it
	Err    error  // why it cannot be used (a *Damage, a *change.NewerError, a missing key); nil: as far as its index says it is good

	file *file
}

// Page is where a page is stored and the few bytes of meta that came with it.
type Page struct {
	Meta []byte // up to 32 bytes, in memory; not to be changed
	Ref  Ref
}

// Damage says that stored bytes are not what was written: which, where, and what to do. Nothing of them was used.
type Damage struct {
	File    string
	Offset  int64    // from which on; 0: the file as a whole
	Object  ObjectID // 0: not a page of an object
	Page    uint32
	Problem string
	Copied  bool // it is in the second copy
}

// Error implements error.
func (d *Damage) Error() string {
	what, remedy := "checkpoint", "an older checkpoint or the second copy is used instead, with the log after it; the next checkpoints replace the file"
	if d.Copied {
		what, remedy = "second copy of the checkpoint", "the next copy replaces it"
	}
	where := ""
	if d.Offset > 0 {
		where = fmt.Sprintf(" at byte %d", d.Offset)
	}
	if d.Object > 0 {
		where += fmt.Sprintf(" (page %d of object %d)", d.Page, d.Object)
	}
	if d.File != "" { // else whoever reads pages found that they do not belong together
		where = " file " + d.File + where
	}
	if where != "" {
		where = ":" + where
	}
	return fmt.Sprintf("%s%s: %s; %s", what, where, d.Problem, remedy)
}

// fileError says which file an error is of that is no damage: a missing key, a newer version, a failed read.
type fileError struct {
	file string
	err  error
}

// Error implements error.
func (e *fileError) Error() string { return "checkpoint file " + e.file + ": " + e.err.Error() }

// Unwrap implements errors.Unwrap.
func (e *fileError) Unwrap() error { return e.err }
