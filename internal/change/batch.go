package change

// Digest is SHA-256 over the whole encoded batch. Each batch carries the digest of the one before it.
type Digest [32]byte

// Header is what every batch carries before its entries.
type Header struct {
	Log     LogID
	Shard   uint32
	Seq     uint64 // the sequence it was appended at: predecessor's + 1, the first is 1
	Prev    Digest // digest of batch Seq-1; zero for the first
	Stamp   int64  // the engine's only now(): microseconds since 1970 UTC, greater than the predecessor's
	Entries uint32 // number of entries that follow
	Records uint32 // number of records in all entries
}

// EntryKind says what an entry is.
type EntryKind uint8

// The kinds of entries.
const (
	EntryWrite      EntryKind = 1 // a write request, or one part of a request that spans batches
	EntryDefinition EntryKind = 2 // Body is a definition document (see sql.Catalog); always alone in its batch
	EntryAudit      EntryKind = 3 // Body is a record of the audit trail (JSON): the engine shows it in laaster.audit
	EntryCanary     EntryKind = 4 // Body is a position and the engine's fingerprint there, see [Canary]; changes nothing
	EntryLost       EntryKind = 5 // stands in a repaired log where a batch is lost; Body says what is known of it (JSON); changes nothing
)

// Op is what a write does with its records.
type Op uint8

// The operations. Insert, Merge and Ignore carry rows; Update and Delete carry one record with a filter.
const (
	OpInsert Op = 1 // an existing key: duplicate in an append-only table, conflict in a keyed one
	OpMerge  Op = 2 // an existing key: the given columns replace (Record.Given); else insert
	OpIgnore Op = 3 // an existing key: no effect, counts as a duplicate
	OpUpdate Op = 4 // Record.Filter selects, Record.Row with Record.Given replaces
	OpDelete Op = 5 // Record.Filter selects
)

// Entry is one request as the log holds it: who asked, under which idempotency key, and its records. All byte slices of
// a decoded entry alias the batch.
type Entry struct {
	Kind     EntryKind
	Op       Op
	Atomic   bool   // all records or none
	Last     bool   // the last part of its request (a request that fits one batch has one part)
	Refused  bool   // of a write: records can stand for rows that were refused before they were logged, see [Record]
	First    uint32 // index of the first record within its request; 0 unless the request spans batches
	Table    uint32 // catalog id of the table (see sql.Catalog)
	Version  uint32 // the table's schema version that encoded the rows
	Count    uint32 // number of records
	BodyHash uint64 // of the whole request, to tell a repeat from another request under the same key; 0 without a key
	Subject  []byte // who asked: auth_subject()
	Role     []byte // and in which role
	Request  []byte // request id, for logs and refusals
	Key      []byte // Idempotency-Key of the request; empty when none
	Trace    []byte // W3C traceparent; empty when none
	Rules    []byte // of a write: what the rows must meet where the engine decides, see [Rules]; empty when nothing
	Body     []byte // the encoded records (EntryWrite) or the document (EntryDefinition)
}

// Record is one record of a write entry.
type Record struct {
	ServerID bool   // the primary key was made by the server: it is unique, nothing remembers it for duplicates
	Row      Row    // the row under the table's layout of Entry.Version; for OpUpdate the replacing values
	Given    []byte // OpMerge, OpUpdate: bitmap of the columns that the caller gave, ceil(columns/8) bytes
	Filter   []byte // OpUpdate, OpDelete: the PostgREST query string, constants included
	Refused  []byte // OpInsert, OpMerge, OpIgnore, of an entry with Refused: in place of all the above, why the row was refused, see [AppendReject]
}
