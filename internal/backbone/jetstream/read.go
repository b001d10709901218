package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
)

// A run is what one request asks for. It is bounded so that neither side holds more than a little, and so that an append that comes meanwhile
// need not wait long: the store answers one request after the other.
const (
	runMessages = 1024
	runBytes    = 256 << 10
)

// getRun is the request for a run of messages, see NATS ADR-31.
type getRun struct {
	Seq      uint64 `json:"seq"`
	Batch    int    `json:"batch"`
	MaxBytes int    `json:"max_bytes"`
}

// Read implements [backbone.Driver].
func (d *Driver) Read(ctx context.Context, from uint64, fn func(seq uint64, data []byte) error) error {
	_, last, err := d.Bounds(ctx)
	if err != nil {
		return err
	}
	inbox := d.conn.NewInbox()
	sub, err := d.conn.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer sub.Unsubscribe() // fails only when the connection is closed
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	for next := max(from, 1); next <= last; {
		if d.rest != nil {
			if err := d.rest.inspect(next, next+runMessages); err != nil {
				return err
			}
		}
		got, err := d.readRun(ctx, sub, inbox, next, last, fn)
		if err != nil {
			return err
		}
		if got == 0 {
			return nil // the store returns nothing from here on; the reader knows what is missing
		}
		next = got + 1
	}
	return nil
}

// readRun asks for the messages from seq on and passes those up to last to fn. It returns the sequence of the last message
// that came, 0 when none did.
func (d *Driver) readRun(ctx context.Context, sub *nats.Subscription, inbox string, seq, last uint64,
	fn func(uint64, []byte) error) (uint64, error) {
	req, err := json.Marshal(getRun{Seq: seq, Batch: runMessages, MaxBytes: runBytes})
	if err != nil {
		return 0, err
	}
	if err := d.conn.PublishRequest("$JS.API.DIRECT.GET."+d.stream, inbox, req); err != nil {
		return 0, fmt.Errorf("read the log from %d: %w", seq, err)
	}
	for got := uint64(0); ; {
		m, err := d.nextMsg(ctx, sub)
		if err != nil {
			return 0, fmt.Errorf("read the log after %d: %w", max(got+1, seq)-1, err)
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204", "404": // the end of the run; nothing there
			return got, nil
		default:
			return 0, fmt.Errorf("read the log from %d: the server answers %s %s", seq, status, m.Header.Get("Description"))
		}
		if got, err = strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64); err != nil {
			return 0, fmt.Errorf("read the log from %d: a message without its sequence: %w", seq, err)
		}
		if got > last {
			return got, nil
		}
		if err := fn(got, m.Data); err != nil {
			return 0, err
		}
	}
}

// nextMsg waits for one message, at most the driver's timeout.
func (d *Driver) nextMsg(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}
