// Package ingest is the door for writes: it authorises, decodes straight into typed rows, checks, fills defaults, appends
// through the shard's one writer, and answers once the engine has applied the batch (or, when asked, once it is durable).
//
// A request is checked whole before anything of it is logged. A row that does not fit is refused with its index and reason and
// keeps no neighbour back, unless the request is atomic. Memory is bounded by [Limits]: what requests hold while they are read,
// checked and answered is counted in one budget, and at its end a request is told busy; when the writes that wait for the log
// reach the [Writer]'s limit, a request waits at most its wait and is then told busy with a time to come back.
//
// [Door] serves the transports; [Writer] owns the open batch. One goroutine, started by the node, runs [Writer.Run].
package ingest
