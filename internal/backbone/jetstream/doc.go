// Package jetstream is the backbone driver on NATS JetStream: one stream per shard, one message per record batch.
//
// By default the server runs inside this process, without any listener, reached over an in-process connection, and syncs
// every append before it acknowledges it, or, if asked, once a second. Its files are inspected before it opens them, for it repairs what is damaged by
// cutting it off; what an earlier start found sound is inspected when it is first read. The same driver works against a server elsewhere, by URL; what an append survives
// there is that server's configuration, so the caller says it.
//
// An append is a request that names the sequence it expects to follow, so that the stream has one writer. A read pulls runs
// of messages by direct get. No consumers are made. A trim is a purge up to a sequence; the stream refuses deletes.
//
// Limits: a message of up to 8 MiB, or what the external server advertises; an append without an answer within
// Options.Timeout is a *backbone.Unknown. Goroutines: those of the server, which end before Close returns, and of its client, of
// which the last may end an instant later.
package jetstream
