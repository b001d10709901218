// Package node opens the rooms in order, joins them, and closes them in reverse. It owns the sockets, the common limits of both
// listeners, and the two loops of a shard: the writer (ingest) and the engine.
//
// [Start] returns once the log has been replayed and both listeners serve; [Node.Wait] returns when everything has ended. A
// failure of the log or of the engine ends the node with an error: what was acknowledged is on disk, and the next start
// decides about the rest.
package node
