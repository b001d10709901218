// Package client keeps live copies of views of a Laaster server in a Go program, writes rows, and says at every moment how fresh the
// copies are. It speaks the protocol of docs/protocol.md over one WebSocket, or over event streams and POST where no WebSocket gets
// through; docs/go.md is its guide, and docs/sdk.md the state machine that it shares with the TypeScript SDK.
//
// What it promises:
//
//   - Rows are a state that was. A frame of changes is applied whole, over all subscriptions of the connection, before anybody is told.
//     [Client.Together] reads several subscriptions at one position.
//   - Nothing is missed. After a cut the client asks for what came after its last position; where the server cannot say, the rows come
//     anew and are told as the difference to those at hand.
//   - The last known rows stay, marked stale with the time since when, for as long as the server is away.
//   - A write has one effect however often it has to be sent: each carries an idempotency key, and a repeat uses the same one.
//   - Nothing grows without bound: writes that wait are bounded by [Options], and a reader of events that is slow gets several epochs
//     merged into one event, still at a real position.
//
// A [Client] belongs to whoever made it and ends by [Client.Close]. All methods may be called concurrently, also out of callbacks. Each
// callback and each iterator of events has its own place in the sequence and hinders nobody. Rows are JSON objects as the server sent them;
// they belong to the client and must not be changed.
package client
