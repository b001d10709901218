// Package sql turns the text of an app.sql into a checked [flow.Program], or into diagnostics with a place and a hint. No I/O.
//
// [Compile] reads the text (package syntax), resolves names and types by the builders of package expr, and plans each
// view with the operators of package flow. It reports every error of the file at once and never panics on any text. The
// same text and the same previous catalog always give the same program, byte for byte.
//
// What is accepted has PostgreSQL's meaning: its types and coercions, its rules for names in GROUP BY and ORDER BY, its
// names for unnamed columns and constraints. What Laaster cannot keep up to date is refused with one diagnostic at the place.
// docs/sql.md is the reference.
//
// [Catalog] is the definition as the log carries it: it gives each table its id and its schema versions, and [Compare] says
// whether a new program may follow it on the same log.
//
// A query is bound block by block ([query]); a sub-query that reads the query around it becomes a join ([frame]); the plan of
// a view is then rewritten so that it keeps little state ([compiler.optimize]), and what watermarks close is marked in it
// ([compiler.timed]). What is certain of a plan's rows (keys, NOT NULL, whether they ever leave) is derived from the plan ([facts]).
//
// Limits: [MaxColumns] and [MaxRelations], and those of package syntax for the text itself.
package sql
