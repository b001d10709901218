// Package ledger is the client that proves what Laaster promises: it writes sequence-numbered events through many producers,
// follows the views live, goes on through crashes of the server, and at the end says of every event whether it is where it must be.
//
// A [Book] has every event that was ever sent and what its sender was told: acknowledged, refused, or nothing. A [Load] is the
// producers, over HTTP and WebSocket, each with its own way to repeat a request without writing twice. A [Watch] is a live
// subscriber that keeps the rows of its views and checks each frame. [Server] is the real binary as a process, [Target] where it is to be
// found after each of its deaths. [Rig] joins them. [Rig.Check] compares what the server holds with the book, [Compare] has PostgreSQL compute
// the views from the table's rows.
//
// What does not hold is a violation: it is noted in the book, with what it is about, and [Book.Err] returns them. Memory grows with
// the events sent, about 200 bytes each. All goroutines belong to the group that the caller gives.
package ledger
