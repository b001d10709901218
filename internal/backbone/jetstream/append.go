package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"laaster/internal/backbone"
)

// pubAck is the answer to an append.
type pubAck struct {
	Seq   uint64 `json:"seq"`
	Error *struct {
		Code        int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
}

// The error codes of an append whose expected sequence is not the last one; the first carries the last one in its text.
const (
	codeWrongLast         = 10071
	codeWrongLastConstant = 10164
)

// Append implements [backbone.Driver].
func (d *Driver) Append(ctx context.Context, data []byte, after uint64) (uint64, error) {
	if !d.exists() {
		if err := d.create(ctx); err != nil {
			return 0, err
		}
	}
	if d.embedded != nil {
		var done func()
		ctx, done = d.embedded.logs.watch(ctx)
		defer done()
	}
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	answer, err := d.conn.RequestMsgWithContext(ctx, &nats.Msg{
		Subject: d.subject,
		Header:  nats.Header{"Nats-Expected-Last-Sequence": []string{strconv.FormatUint(after, 10)}},
		Data:    data,
	})
	if err != nil {
		return 0, d.sendError(ctx, err)
	}
	var ack pubAck
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, &backbone.Unknown{Err: fmt.Errorf("an answer that cannot be read: %w", err)}
	}
	if ack.Error == nil {
		return ack.Seq, nil
	}
	if ack.Error.Code != codeWrongLast && ack.Error.Code != codeWrongLastConstant {
		return 0, fmt.Errorf("refused by the server: %s (%d)", ack.Error.Description, ack.Error.Code)
	}
	// The server answers in order: an earlier append has been decided by now. If it failed on its way to the disk, then what
	// a read back would find is only in the server's memory.
	if err := d.writeError(); err != nil {
		return 0, err
	}
	_, last, _ := strings.Cut(ack.Error.Description, ": ")
	n, _ := strconv.ParseUint(last, 10, 64)
	return 0, &backbone.Fenced{After: after, Last: n}
}

// sendError says what an append without an answer means.
func (d *Driver) sendError(ctx context.Context, err error) error {
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrMaxPayload) ||
		errors.Is(err, nats.ErrBadSubject) {
		return err // it was not sent, or nobody received it
	}
	if werr := d.writeError(); werr != nil {
		return werr
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return &backbone.Unknown{Err: err}
}

// writeError returns a *backbone.WriteError when the embedded server cannot write any more.
func (d *Driver) writeError() error {
	if d.embedded == nil {
		return nil
	}
	if full, err := d.embedded.writeError(d.stream); err != nil {
		return &backbone.WriteError{Full: full, Err: err}
	}
	return nil
}
