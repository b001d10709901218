// Package view holds the rows of every readable table and view as of one position, and the epochs that led there.
//
// It owns keyed rows in ordered copy-on-write trees and a ring of recent epochs. It promises that everything it shows
// belongs to exactly one position: [Store.Apply] moves all relations together, [Store.Snapshot] of any number of
// relations costs a few pointers and never changes afterwards, and [Store.Since] returns epochs without a hole or says
// that it cannot. Rows are copied in, so an epoch's memory is free once it has left the ring.
//
// Limits: the ring is bounded by bytes (Options.RingBytes, default 16 MiB; the newest epoch is always kept). Waiters are
// as many as there are requests in flight. The package starts no goroutine and needs no closing.
package view
