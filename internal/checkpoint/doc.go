// Package checkpoint stores the state of an app beside its log: pages, written as they are in memory, in files that never change.
//
// A checkpoint is a new file with the pages that changed since the one before, an index, the [Header] and the root parts, together with the older files
// that hold its other pages. It becomes visible by a rename after everything in it is durable, so a crash at any moment leaves the old checkpoint or
// the new one. The two newest are kept; a file goes when neither needs it. Files that are mostly dead, and small ones when there are many, have
// their live pages carried over into the next checkpoint, so disk use stays below about 2.5 times the state (docs/formats.md says how).
//
// Every byte of every file is under a checksum that names what it is: a page is bound to its log, shard, file, object and number, by CRC-32C or, with
// keys, by an AEAD tag. What is read is right or an error: a [*Damage] that names file, place and remedy, a *change.NewerError, or an error
// of package seal. The second copy is one file that shares no byte with the first ones, so that damage of those does not reach it.
//
// One process uses a folder (the data folder's lock sees to that). One goroutine writes a checkpoint, while others read pages, make the
// second copy and scrub. The room starts no goroutine. Memory: about 120 bytes per live page, and the buffers of what is under way.
package checkpoint
