// Package contract checks jsonb values against JSON Schemas (2020-12) and says whether one schema may follow another.
//
// A [Schema] is one file, compiled once: it refers to nothing outside of itself and nothing is ever fetched. Schemas, values and the work of checking
// one value against one schema are bounded, so that neither a schema with branches that branch nor a value that walks them costs more than [MaxSteps].
// Regular expressions are RE2's: they take time in proportion to their text. A format that is known is checked, not only noted.
//
// [Narrower] compares two schemas conservatively: what it does not report is safe, what it reports may be safe and could not be proven so.
// Both are pure: no files, no clock.
package contract
