// Package change is what moves through Laaster: values, rows, changes, batches, positions and epochs, and their one
// encoding.
//
// Everything here is plain data. Encodings are canonical where equality matters: two rows with equal values under one
// Layout are equal bytes (numeric keeps its display scale, interval its fields, and so they and arrays of them are the
// exception: compare keys, not rows). The byte formats that outlive the process (batch, record, row) have their page in
// docs/formats.md and kept samples.
package change
