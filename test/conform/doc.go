// Package conform holds the conformance script of delivery: scenarios in plain text (scenarios/*.txt), played against the real server by the
// TypeScript SDK on Node, by the Go client and by a strict client of its own, over WebSocket and over event streams, with and without
// a proxy between that cuts at every class of byte boundary, delays and trickles. Whatever a client tells is compared with a model of
// the tables: its rows must be those of the position that it names, positions only grow, and no change comes twice.
//
// A client is driven by commands, one JSON object a line, and answers with events in the same form: js/driver.mjs does it for the TypeScript
// SDK, godriver_test.go for the Go client, raw_test.go for the strict one. docs/conformance.md has the commands and what they print.
package conform
