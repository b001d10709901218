// Package ingest is the door for writes: it authorises, decodes straight into typed rows, checks, fills defaults, appends
// through the shard's one writer, and answers once the engine has applied the batch (or, when asked, once it is durable).
//
// A request is checked whole before anything of it is logged. A row that does not fit is refused with its index and reason and
// keeps no neighbour back, unless the request is atomic.
//
// Memory is bounded three times: what requests hold while they are read, checked and answered ([Limits.Requests]), what is on its way through log and
// engine (the [Writer]'s limit), and what is remembered of ids and keys ([Limits.DedupeMemory]). Time is bounded too: no more is let in than is
// answered soon, and the rest is refused before its body is read. Each bound is shared out between principals, and at it a request
// is told busy or rate_limited with a time to come back. DESIGN.md says how.
//
// [Door] serves the transports; [Writer] owns the open batch. One goroutine, started by the node, runs [Writer.Run].
package ingest
