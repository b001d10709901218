package backbone

import (
	"fmt"

	"laaster/internal/change"
)

// Kind says in which way a log is damaged.
type Kind string

// The kinds of damage.
const (
	Hole      Kind = "hole"      // batches in the middle are missing
	Checksum  Kind = "checksum"  // a batch's bytes changed
	Malformed Kind = "malformed" // a batch with a right checksum that cannot be read all the same
	Chain     Kind = "chain"     // a batch does not link to its predecessor, or is not the one that the high-water mark names
	Shortened Kind = "shortened" // the log ends before a position that was acknowledged
	Foreign   Kind = "foreign"   // a batch of another log or shard
	Newer     Kind = "newer"     // a batch in a newer format; nothing is lost, a newer program reads it
	Locked    Kind = "locked"    // an encrypted batch whose key is not there; nothing is lost, the key opens it
	Forged    Kind = "forged"    // an encrypted batch that does not open with the key that it names, or a plain one behind an encrypted one
	// Unreadable is a store that has files which it cannot read at all; From is 1 and To 0, for it is not known how far they go.
	Unreadable Kind = "unreadable"
)

// Damage says that the log does not hold what was appended to it, and which positions are concerned. It is final for the
// shard that found it: it neither reads past it nor appends.
type Damage struct {
	Kind   Kind
	Log    change.LogID // zero when it is not known
	Shard  uint32
	From   uint64 // the first position that is lost or cannot be trusted
	To     uint64 // the last one; From when it is one batch
	Detail string // what was found
	Remedy string // what can be done
}

// Error implements error.
func (d *Damage) Error() string {
	where := fmt.Sprintf("batch %d of shard %d", d.From, d.Shard)
	switch {
	case d.To < d.From:
		where = fmt.Sprintf("shard %d", d.Shard)
	case d.To > d.From:
		where = fmt.Sprintf("batches %d to %d of shard %d", d.From, d.To, d.Shard)
	}
	return fmt.Sprintf("the log is damaged (%s) at %s: %s. %s", d.Kind, where, d.Detail, d.Remedy)
}

const (
	remedyRestore = "Stop, and see what `laaster repair --dry-run` finds: it says what of this is lost and can make a whole log of the rest; " +
		"or restore it from a backup that has these positions (`laaster restore`)"
	remedyForeign = "Put back the data folder that belongs together: the store and its high-water file come from one log"
	remedyLocked  = "Set encryption.keys to the key file (or variable) that has this key; nothing is lost, and nothing was changed"
	remedyForged  = "If the key file has another key under this id, put the right one back: then nothing is lost. If it is the right one, somebody wrote to " +
		"the store who does not have it: keep a copy of the data folder as it is and restore it from a backup"
	remedyNewer = "Start the newer version of laaster that wrote it; nothing is lost"
)

// Remedy returns what an operator can do about a kind of damage.
func (k Kind) Remedy() string {
	switch k {
	case Foreign:
		return remedyForeign
	case Newer:
		return remedyNewer
	case Locked:
		return remedyLocked
	case Forged:
		return remedyForged
	}
	return remedyRestore
}

// Reason says why a shard takes no more appends.
type Reason string

// The reasons.
const (
	DiskFull   Reason = "disk full"
	WriteFail  Reason = "write failed"
	Displaced  Reason = "another writer"
	Unresolved Reason = "unresolved append"
	Damaged    Reason = "damaged"
	Closed     Reason = "closed"
)

// Stopped is the error of every append to a shard that can no longer write. The append was not acknowledged and nothing of it
// was applied; only of the append that stopped the shard may the batch be in the log when it is next opened. [Shard.Reopen] goes on after DiskFull and
// Unresolved; after WriteFail the process ends, see [ResyncStore].
type Stopped struct {
	Reason Reason
	Err    error // what happened: a *Damage, *Fenced, *Unknown, *WriteError or an error of the high-water file
	Remedy string
}

// Error implements error.
func (e *Stopped) Error() string {
	return fmt.Sprintf("the log takes no appends (%s): %v. %s", e.Reason, e.Err, e.Remedy)
}

// Unwrap returns the cause.
func (e *Stopped) Unwrap() error { return e.Err }

// stopped returns the error for a reason with its remedy.
func stopped(r Reason, err error) *Stopped {
	remedy := "Look into the cause, then restart; what was acknowledged is in the log"
	switch r {
	case DiskFull:
		remedy = "Free space on the disk that holds the data folder; what was acknowledged is in the log"
	case WriteFail:
		remedy = "Look into the disk (its system's log has the error), then start again: what was written lately is then written anew and synced " +
			"before it is trusted; what was acknowledged is in the log"
	case Displaced:
		remedy = "One process may write to a log: stop the other one, or this one"
	case Unresolved:
		remedy = "Check the store and the way to it, then restart: the log is read back and shows whether the last batch is in it"
	case Damaged:
		remedy = "Restart to have the log checked from its beginning"
	case Closed:
		remedy = "Open the shard again"
	}
	return &Stopped{Reason: r, Err: err, Remedy: remedy}
}
