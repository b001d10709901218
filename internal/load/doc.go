// Package load puts open-loop load on a server of Laaster and measures what it does: delays, counts, rows, the server's
// processor time and memory. It is what `laaster bench` runs.
//
// Requests leave by a [Schedule] that does not wait for answers, and a delay counts from the moment at which a request was due, so a
// server that stalls is charged for everything that it held up (no coordinated omission). Each connection that writes owns some
// rows and has one request under way, so the changes of a row are numbered and their order is known: a client that sees number 7
// of a row knows that 5 and 6 are now on its screen too, each with its own delay, and what a row must be at a position follows from
// the answers to the writes alone (see plan and judge).
//
// Thousands of live connections are served by one goroutine with epoll on Linux ([Swarm]), elsewhere and over TLS by a goroutine for each. The
// package speaks the public protocol and imports none of the rooms that it measures. It stops when its context ends, and still reports what it has.
package load
