// Package backbone is the durable, totally ordered log: record batches, one after the other, each at the sequence after
// its predecessor's.
//
// A [Driver] stores bytes; there is one for memory and one for JetStream, and backbonetest is the suite that both pass. A
// [Shard] is the log that rooms use: it stamps and chains the batches that it appends, resolves an append whose answer
// was lost, and verifies everything that it reads. It does not trust its store: a hole, a changed byte, a tail that went
// missing or a store of another log is a [*Damage] that names the positions lost, never a silent gap. To notice a
// shortened log it keeps a high-water mark, the last position and its digest, in a file beside the store.
//
// A shard has one writer at a time: an append names the sequence that it follows, so that of two writers one is refused.
// What Trim took away is gone by intent: where the log begins is in a file, the base, so that it is told from a log that lost its beginning.
//
// Bounds: a batch holds at most change.MaxBatch bytes, one append is outstanding, and it is decided
// within [Options].Patience. What cannot be decided, or written, stops the shard ([*Stopped]). After a full disk, or an append that stayed
// without an answer, [Shard.Reopen] goes on in the same process. After any other failure to write or sync the process ends: nothing under way was
// acknowledged, and a marker has the next start write anew what the disk may not have ([ResyncStore]) before the log is opened.
//
// With [Options].Keys the store is given envelopes of encrypted batches; everything above the driver sees plain ones.
package backbone
