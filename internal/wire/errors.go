package wire

import (
	"net/http"
	"sync"
)

// Code is the stable name of an error: clients decide by it, people find it in docs/errors.md.
type Code string

// The codes.
const (
	InvalidJSON     Code = "invalid_json"
	InvalidRow      Code = "invalid_row"
	InvalidRequest  Code = "invalid_request" // a malformed frame, parameter or header
	UnknownTable    Code = "unknown_table"
	UnknownView     Code = "unknown_view"
	UnknownColumn   Code = "unknown_column"
	NotFound        Code = "not_found" // no such path
	BadFilter       Code = "bad_filter"
	Duplicate       Code = "duplicate"
	Conflict        Code = "conflict"
	SequenceGap     Code = "sequence_gap" // a producer left numbers out
	Constraint      Code = "constraint"
	Unauthenticated Code = "unauthenticated"
	TokenExpired    Code = "token_expired"
	Forbidden       Code = "forbidden"
	RateLimited     Code = "rate_limited"
	Busy            Code = "busy"
	Unresolved      Code = "unresolved" // a write of which is not known whether the log has it
	NotYet          Code = "not_yet"
	TooLarge        Code = "too_large"
	TooMany         Code = "too_many"
	SlowConsumer    Code = "slow_consumer"
	Gap             Code = "gap"
	Draining        Code = "draining"
	StorageDamaged  Code = "storage_damaged"
	NotSupported    Code = "not_supported" // part of the protocol, not of this server
	Internal        Code = "internal"
)

// Retry says whether the same request may succeed later.
type Retry string

// The retry classes.
const (
	RetryNo    Retry = "no"    // it will fail again until the caller changes something
	RetryAfter Retry = "after" // wait first: Retry-After, or retry_after_ms
)

// Problem is the one shape of an error on every transport: application/problem+json (RFC 9457) over HTTP, the same object
// under "error" in a frame. It implements error.
type Problem struct {
	Type         string `json:"type"`             // "/errors/<code>"
	Title        string `json:"title"`            // the code in words
	Status       int    `json:"status"`           // HTTP status
	Code         Code   `json:"code"`             //
	Detail       string `json:"detail,omitempty"` // what is wrong here
	Field        string `json:"field,omitempty"`  // the column, parameter or member to blame
	Hint         string `json:"hint,omitempty"`   // what to do about it
	Retry        Retry  `json:"retry,omitempty"`
	RetryAfterMS int    `json:"retry_after_ms,omitempty"` // with Retry "after"
	Expected     uint64 `json:"expected,omitempty"`       // of a sequence_gap: the number to send next
	Request      string `json:"request,omitempty"`        // the request id that is in the log line
}

// CodeInfo is the fixed part of an error code.
type CodeInfo struct {
	Code   Code
	Status int
	Retry  Retry
	Title  string
	Remedy string // what to do, for docs/errors.md
}

// Codes returns every code with its status, retry class and title, in the order of the documentation.
func Codes() []CodeInfo {
	return []CodeInfo{
		{InvalidJSON, http.StatusBadRequest, RetryNo, "the body is not valid JSON",
			"Send valid JSON in UTF-8: the detail says at which byte reading stopped."},
		{InvalidRow, http.StatusUnprocessableEntity, RetryNo, "a row does not fit its table",
			"Correct the column in `field`: its type, a NULL where none may be, or a column that the table does not have."},
		{InvalidRequest, http.StatusBadRequest, RetryNo, "the request or frame is malformed",
			"Correct the member, parameter or header in `field`. A client that gets this over WebSocket before `welcome` is closed."},
		{UnknownTable, http.StatusNotFound, RetryNo, "no such table",
			"Check the name; tables are declared in app.sql."},
		{UnknownView, http.StatusNotFound, RetryNo, "no such view",
			"Check the name; views and readable tables are declared in app.sql."},
		{UnknownColumn, http.StatusBadRequest, RetryNo, "no such column",
			"Check the name in `field`; names are folded to lower case as PostgreSQL folds them."},
		{NotFound, http.StatusNotFound, RetryNo, "nothing at this path",
			"Check the path."},
		{BadFilter, http.StatusBadRequest, RetryNo, "the filter cannot be read",
			"Filters are PostgREST's: `column=operator.value`. The detail says which part could not be read."},
		{Duplicate, http.StatusConflict, RetryNo, "seen before",
			"Nothing: the row is there already. Send another id if it is another event."},
		{Conflict, http.StatusConflict, RetryNo, "a row with this key exists, or the key was used for another request",
			"Use another key, or `on_conflict=merge` or `on_conflict=ignore`. For an idempotency key: one key belongs to one request."},
		{SequenceGap, http.StatusConflict, RetryNo, "a producer's sequence does not follow its last one",
			"Send the write with the number in `expected`, and what follows it, first. A number below it was written; one beyond it is refused since what lies between may be lost."},
		{Constraint, http.StatusUnprocessableEntity, RetryNo, "a row violates a constraint",
			"Correct the row so that it passes the CHECK that the detail names."},
		{Unauthenticated, http.StatusUnauthorized, RetryNo, "a token is needed",
			"Connect with a token that the server believes, or grant the relation to `anon` in app.sql. The detail says what is wrong with a token that was sent."},
		{TokenExpired, http.StatusUnauthorized, RetryNo, "the token has expired",
			"Get a new token from its issuer. On an open connection send it in a `token` frame before the old one expires."},
		{Forbidden, http.StatusForbidden, RetryNo, "not granted to this role",
			"Grant it to the caller's role in app.sql."},
		{RateLimited, http.StatusTooManyRequests, RetryAfter, "too many requests",
			"Wait as long as `Retry-After` or `retry_after_ms` says."},
		{Busy, http.StatusServiceUnavailable, RetryAfter, "the server is at a limit",
			"Wait as long as `Retry-After` or `retry_after_ms` says and send the same again. Nothing was lost: what was refused was not written."},
		{Unresolved, http.StatusServiceUnavailable, RetryAfter, "whether the write is stored is not known yet",
			"Wait as long as `Retry-After` or `retry_after_ms` says and send the same again, with the same ids or the same Idempotency-Key: it takes effect once. Without either, look whether it is there."},
		{NotYet, http.StatusGatewayTimeout, RetryAfter, "the position is not applied yet",
			"Ask again, or wait longer with `_wait`. The position may belong to a write that is still on its way."},
		{TooLarge, http.StatusRequestEntityTooLarge, RetryNo, "larger than a limit",
			"Send less at once. The detail names the limit."},
		{TooMany, http.StatusUnprocessableEntity, RetryNo, "more items than a limit",
			"Send fewer items at once. The detail names the limit."},
		{SlowConsumer, http.StatusServiceUnavailable, RetryAfter, "the client reads too slowly",
			"Connect again after `retry_after_ms`; read faster, subscribe to less, or ask for a lower `rate`."},
		{Gap, http.StatusGone, RetryNo, "the history asked for is gone",
			"Read the view anew. Live clients get a snapshot by themselves."},
		{Draining, http.StatusServiceUnavailable, RetryAfter, "the server is shutting down",
			"Connect again after `retry_after_ms`: another instance or the restarted one answers."},
		{StorageDamaged, http.StatusServiceUnavailable, RetryNo, "the log is damaged",
			"An operator has to look: `/readyz` and the log of the server say what is damaged and what can be done."},
		{NotSupported, http.StatusNotImplemented, RetryNo, "not supported yet",
			"The page of the protocol says what works today."},
		{Internal, http.StatusInternalServerError, RetryNo, "an error of ours",
			"Report it with the request id; the log line has the details."},
	}
}

// byCode is Codes by code: problems are made for every request of a flood.
var byCode = sync.OnceValue(func() map[Code]CodeInfo {
	all := map[Code]CodeInfo{}
	for _, c := range Codes() {
		all[c.Code] = c
	}
	return all
})

// NewProblem returns a problem of a known code with its fixed parts filled in. An unknown code becomes internal.
func NewProblem(code Code, detail string) *Problem {
	c, known := byCode()[code]
	if !known {
		c = byCode()[Internal]
	}
	return &Problem{Type: "/errors/" + string(c.Code), Title: c.Title, Status: c.Status, Code: c.Code, Detail: detail, Retry: c.Retry}
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return string(p.Code) + ": " + p.Title
	}
	return string(p.Code) + ": " + p.Detail
}

// WithField returns p with the field and hint set. It changes p.
func (p *Problem) WithField(field, hint string) *Problem {
	p.Field, p.Hint = field, hint
	return p
}

// WithHint returns p with the hint set. It changes p.
func (p *Problem) WithHint(hint string) *Problem {
	p.Hint = hint
	return p
}
