// Package push brings rows to clients: reads over HTTP, and live rows over Server-Sent Events and WebSocket.
//
// It owns connections, subscriptions and everything that is written to a socket. It promises that a client which applies
// what it is sent has, at every position that it is told, exactly the rows of that position; that a change is sent once, never
// lost and never doubled; that positions never fall; and that a slow client costs bounded memory and makes nobody else wait.
// DESIGN.md says how: a connection is a cursor over the run of epochs, never a queue.
//
// It needs a [laaster/internal/view.Store] that the engine moves, and somebody who answers writes ([Writer]). It starts
// goroutines through kit/run: one that turns epochs into frames, a few that write them, one that looks at the clock, one
// reader for each WebSocket, and a writer for a connection only while that one is behind. Hub.Drain says goodbye to clients,
// Hub.Close ends everything and waits for it.
//
// Limits are in [Options]; at a limit a client gets a typed problem, or at last a close with a code and a time to come back.
package push
