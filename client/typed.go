package client

import (
	"context"
	"encoding/json"
	"iter"
)

// Typed is a subscription whose rows are read as T, a struct with json tags as a rule. Columns that T does not name are left out.
type Typed[T any] struct{ *Subscription }

// TypedChange is a [Change] whose rows are read.
type TypedChange[T any] struct {
	Op  Op
	Row *T // the row now; nil after a delete
	Old *T // the row before; nil at an insert
}

// TypedEvent is an [Event] whose rows are read.
type TypedEvent[T any] struct {
	Event
	Rows []TypedChange[T] // as Event.Changes
}

// SubscribeAs is [Client.Subscribe] for rows of type T.
func SubscribeAs[T any](c *Client, view string, query Query) Typed[T] {
	return Typed[T]{c.Subscribe(view, query)}
}

// Decode reads rows as values of type T. An error is of the first row that does not fit.
func Decode[T any](rows []Row) ([]T, error) {
	out := make([]T, len(rows))
	for i, r := range rows {
		if err := json.Unmarshal(r, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// All returns the rows in order.
func (t Typed[T]) All() ([]T, error) { return Decode[T](t.Rows()) }

// One returns the row with this key, nil when there is none. See [Subscription.Get].
func (t Typed[T]) One(key ...any) (*T, error) {
	row, ok := t.Get(key...)
	if !ok {
		return nil, nil
	}
	return decodeOne[T](row)
}

// TypedEvents is [Subscription.Events] with rows of type T. After an error, of a row that is no T, it ends.
func (t Typed[T]) TypedEvents(ctx context.Context) iter.Seq2[TypedEvent[T], error] {
	return func(yield func(TypedEvent[T], error) bool) {
		for e := range t.Events(ctx) {
			out := TypedEvent[T]{Event: e, Rows: make([]TypedChange[T], len(e.Changes))}
			for i := range e.Changes {
				c := &e.Changes[i]
				row, err := decodeOne[T](c.Row)
				if err != nil {
					yield(out, err)
					return
				}
				old, err := decodeOne[T](c.Old)
				if err != nil {
					yield(out, err)
					return
				}
				out.Rows[i] = TypedChange[T]{c.Op, row, old}
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

func decodeOne[T any](row Row) (*T, error) {
	if row == nil {
		return nil, nil
	}
	out := new(T)
	return out, json.Unmarshal(row, out)
}

// ReadAs is [Client.Read] for rows of type T.
func ReadAs[T any](ctx context.Context, c *Client, view string, query Query, options ReadOptions) ([]T, Reading, error) {
	r, err := c.Read(ctx, view, query, options)
	if err != nil {
		return nil, r, err
	}
	rows, err := Decode[T](r.Rows)
	return rows, r, err
}
