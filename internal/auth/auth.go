// Package auth decides who asks and what they may.
//
// It owns the principal of a request, the verification of its token (Verifier), and the one engine of decisions that every transport asks (Rules): may this
// caller do this to this relation, with which columns, and with which rows. Rows are decided by a condition (Rule) that the reader or writer of rows
// evaluates: the caller is constants in it, so callers of whom the same is asked share it, and a column that is compared with a claim can be looked up.
//
// Deny is the default: what no GRANT allows is refused, a row that no policy lets through is not there, and a token that cannot be verified is refused rather
// than treated as anonymous. Names of relations are not secret: unknown ones are 404, known ones that are not granted 401 or 403.
package auth
