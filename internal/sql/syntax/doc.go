// Package syntax turns the text of an app.sql into a parse tree. It knows PostgreSQL's grammar and nothing else: no
// names, no types, no I/O.
//
// The promise: whatever [Parse] accepts, PostgreSQL's own grammar accepts too, with the same tree. What it does not read
// (statements and clauses that no app needs) is an error that says so, never a guess. A test compares every tree with
// PostgreSQL's own parser over a corpus and over random mutations of it.
//
// Limits: a text of [MaxBytes], nesting of [MaxDepth], [MaxChain] operators in a row on one level, [MaxErrors] reported.
// Beyond each there is an error of its own [ErrorKind]. The parser recovers at commas of lists and at semicolons, so that
// one call reports the errors of a whole file.
package syntax
