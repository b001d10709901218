// Package archive is the backup set: one file, or one stream, with a log from where it begins up to a position, and the checkpoints that a start from
// there needs.
//
// A set is a run of frames, each with its number and a checksum; at its end is the manifest with what must have been there and the root of a
// SHA-256 tree over all frames. [Write] makes one of a running server, as it is at one position, with bounded memory. [Read] verifies everything that it
// passes on: frames, the order of them, the chain of the batches, the manifest, and that nothing follows. So a set that is cut, or of which
// anything was changed, dropped, moved or added, is a [*SetError] that says where. Of an encrypted folder the frames are sealed with its keys, bound
// to the set and to their number. Without encryption, who changes a set can make every checksum anew: the root, which is told when the
// set is made, shows that when it was noted elsewhere.
package archive
