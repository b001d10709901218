// Package signal is the state of channels and presence: rows that live in memory alone, for as long as somebody keeps them up.
//
// It owns the rows, who set them, when they end, and what changed of them for whom follows. It knows no sockets and no frames: package push
// turns what a [Feed] says into bytes. It promises that a follower who applies what [Feed.Next] returns from one call to the next has, when it
// is at the end, exactly the rows of that moment; that between two calls a key comes once, with its newest row; and that nothing is queued for anybody: a
// follower is a [Cursor] over the versions of a feed, and who is too far behind gets the rows anew.
//
// It needs a clock only as the time that callers pass, and somebody who calls [State.Advance] when [Options.Wake] was called or
// the time that Advance returned has come. It starts no goroutine. Everything ends with the process: that is its bargain.
//
// Limits are in [Options]. At a limit the caller gets a typed problem; signals that come faster than the rate are held back, the newest of each
// key, and take effect at that rate. Everything may be called concurrently.
package signal
