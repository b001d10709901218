// Package view holds the rows of every readable table and view as of one position, and the epochs that led there.
//
// It owns keyed rows in ordered copy-on-write trees and a ring of recent epochs. It promises that everything it shows
// belongs to exactly one position: [Store.Apply] moves all relations together, [Store.Snapshot] of any number of
// relations costs a few pointers and never changes afterwards, and [Store.Since] returns epochs without a hole or says
// that it cannot. Rows are copied in, so an epoch's memory is free once it has left the ring.
//
// The rows of a relation lie one after the other in pages of up to 4 KiB (a larger row has a page of its own), without pointers, so that the collector does
// not walk them; above are branches of up to 64 children. What a snapshot reaches is copied once before it changes, everything else changes in place.
// Rows and keys that a snapshot hands out are pieces of a page: read-only, for ever what they are, and whoever keeps one keeps its page.
//
// A checkpoint ([Store.Freeze], [Frozen.Write], [Store.Done], [Load]) has these pages as they are, the branches above them, and pages of epochs. A page that
// is stored and unchanged is not written again, and its memory may be freed ([Store.Trim]); whoever needs it then reads it, without a lock of the store. A page
// that cannot be read, or is not what it should be, is never served: it panics, and the owner is told (Options.Damaged).
//
// Limits: the ring is bounded by bytes (Options.RingBytes, default 16 MiB; the newest epoch is always kept), a checkpoint has at most 64 MiB of it. Pages in
// memory are bounded by what Trim is told, plus an eighth between two calls, plus what is not stored yet; about 200 bytes per page stay in any case. Waiters are
// as many as there are requests in flight. The package starts no goroutine and needs no closing.
package view
