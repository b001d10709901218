package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// rows are the rows of one view as a subscriber has them: canonical JSON by canonical key.
type rows struct {
	view     string
	key      []string
	byKey    map[string]string
	at       Position // what they are of, when a subscriber has several views
	complete bool     // the snapshot's last page has come
	begun    bool     // a snapshot's pages are coming
}

// changes is what a frame says of one subscription.
type changes struct {
	Put []json.RawMessage
	Del []json.RawMessage
}

// canonical returns a JSON value with sorted members and numbers as they came.
func canonical(b []byte) (string, map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", nil, err
	}
	out, err := json.Marshal(v)
	m, _ := v.(map[string]any)
	return string(out), m, err
}

// keyOf returns the key of a row: its key columns' values as a JSON array.
func (r *rows) keyOf(row map[string]any) (string, error) {
	key := make([]any, len(r.key))
	for i, c := range r.key {
		v, ok := row[c]
		if !ok {
			return "", fmt.Errorf("view %s: a row without its key column %s", r.view, c)
		}
		key[i] = v
	}
	b, err := json.Marshal(key)
	return string(b), err
}

// page takes a page of a snapshot; first says that it is the first one.
func (r *rows) page(key []string, list []json.RawMessage, more bool) error {
	if !r.begun {
		r.key, r.byKey, r.begun, r.complete = key, map[string]string{}, true, false
	}
	for _, raw := range list {
		text, row, err := canonical(raw)
		if err != nil {
			return err
		}
		k, err := r.keyOf(row)
		if err != nil {
			return err
		}
		if _, there := r.byKey[k]; there {
			return fmt.Errorf("view %s: the snapshot has %s twice", r.view, k)
		}
		r.byKey[k] = text
	}
	if !more {
		r.begun, r.complete = false, true
	}
	return nil
}

// apply takes the changes of one frame. single says that the frame is of exactly one epoch, so that nothing in it can be known already.
func (r *rows) apply(c *changes, single bool) error {
	for _, raw := range c.Del {
		k, _, err := canonical(raw)
		if err != nil {
			return err
		}
		if _, there := r.byKey[k]; !there && single {
			return fmt.Errorf("view %s: %s leaves and was not there", r.view, k)
		}
		if r.view == "events" {
			return fmt.Errorf("view events: %s leaves an append-only table", k)
		}
		delete(r.byKey, k)
	}
	for _, raw := range c.Put {
		text, row, err := canonical(raw)
		if err != nil {
			return err
		}
		k, err := r.keyOf(row)
		if err != nil {
			return err
		}
		if old, there := r.byKey[k]; there && (single && old == text || r.view == "events" && (single || old != text)) {
			return fmt.Errorf("view %s: a change that comes twice: %s, was %s", r.view, text, old)
		}
		r.byKey[k] = text
	}
	return nil
}

// list returns the rows sorted.
func (r *rows) list() []string {
	out := make([]string, 0, len(r.byKey))
	for _, v := range r.byKey {
		out = append(out, v)
	}
	sort.Strings(out)
	return out
}

// differ says in what two sorted lists of rows differ, empty when they are equal.
func differ(a, b []string, an, bn string) string {
	var out []string
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		count[s]--
	}
	for s, n := range count {
		if n > 0 {
			out = append(out, fmt.Sprintf("only %s: %s", an, s))
		}
		if n < 0 {
			out = append(out, fmt.Sprintf("only %s: %s", bn, s))
		}
	}
	if len(out) == 0 {
		return ""
	}
	sort.Strings(out)
	if n := len(out); n > 10 {
		out = append(out[:10], fmt.Sprintf("… %d in all", n))
	}
	return fmt.Sprintf("%d rows %s, %d %s:\n%s", len(a), an, len(b), bn, strings.Join(out, "\n"))
}
