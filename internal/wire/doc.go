// Package wire is what clients see: frames, error codes, limits and versions, defined once. The Go code uses these types; the
// TypeScript types of the SDK and the tables of docs/protocol.md are generated from them, and a test fails when they differ.
package wire
