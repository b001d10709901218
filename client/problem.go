package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"laaster/internal/wire"
)

// The codes of problems that are the client's own. All others are the server's: docs/errors.md.
const (
	// CodeTimeout: the context of a call ended before an answer came. Whether a write took effect is unknown; repeating it with the
	// problem's key is safe.
	CodeTimeout = "timeout"
	// CodeUnreachable: there is no connection, or a write was sent three times and the connection ended each time.
	CodeUnreachable = "unreachable"
	// CodeClosed: the client or the subscription was closed.
	CodeClosed = "closed"
	// CodeQueueFull: as many writes wait as [Options] allows.
	CodeQueueFull = "queue_full"
)

// Problem is every error that the server or this package reports. Decide by Code.
type Problem struct {
	Code       string        // stable name: docs/errors.md, or one of the Code constants
	Status     int           // HTTP status; 0 for codes of this package
	Detail     string        // what is wrong here
	Field      string        // the column, parameter or member to blame; may be empty
	Hint       string        // what to do about it; may be empty
	Retry      bool          // the same request may succeed later
	RetryAfter time.Duration // with Retry: how long to wait; 0: the server did not say
	Expected   uint64        // of a sequence_gap: the number to send next
	Request    string        // the id in the server's log
	Key        string        // of a write: its idempotency key
	cause      error
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Code
	}
	return p.Code + ": " + p.Detail
}

// Unwrap returns what made the problem, such as the context's error or a failed dial; nil when the server said so.
func (p *Problem) Unwrap() error { return p.cause }

func problemf(code, format string, args ...any) *Problem {
	p := &Problem{Code: code, Detail: fmt.Sprintf(format, args...), Retry: code == CodeTimeout || code == CodeUnreachable || code == CodeQueueFull}
	for _, a := range args {
		if err, ok := a.(error); ok {
			p.cause = err
		}
	}
	return p
}

// fromRetry reads a wait of the wire, at most a day.
func fromRetry(ms int) time.Duration {
	return time.Duration(min(max(0, ms), 24*60*60*1000)) * time.Millisecond
}

func fromWire(w *wire.Problem) *Problem {
	if w == nil {
		return problemf("internal", "the server sent an error without a problem")
	}
	detail := w.Detail
	if detail == "" {
		detail = w.Title
	}
	return &Problem{Code: string(w.Code), Status: w.Status, Detail: detail, Field: w.Field, Hint: w.Hint, Retry: w.Retry == wire.RetryAfter,
		RetryAfter: fromRetry(w.RetryAfterMS), Expected: w.Expected, Request: w.Request}
}

// fromResponse makes a problem of an HTTP answer that is not a good one. What is not Laaster's (a proxy's page, say) has no code of the
// server; ours reports whether it is.
func fromResponse(r *http.Response, body []byte) (p *Problem, ours bool) {
	var w wire.Problem
	if err := json.Unmarshal(body, &w); err != nil || w.Code == "" {
		p = &Problem{Code: "http_" + strconv.Itoa(r.StatusCode), Status: r.StatusCode, Detail: "the answer " + r.Status + " is not Laaster's",
			Retry: r.StatusCode == http.StatusTooManyRequests || r.StatusCode >= http.StatusBadGateway}
	} else {
		p, ours = fromWire(&w), true
	}
	if p.RetryAfter == 0 {
		if s, err := strconv.Atoi(strings.TrimSpace(r.Header.Get("Retry-After"))); err == nil && s > 0 && s < 1<<20 {
			p.RetryAfter = time.Duration(s) * time.Second
		}
	}
	return p, ours
}
