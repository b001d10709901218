package ledger

import (
	"encoding/json"
	"strings"
	"testing"
)

func sent(b *Book, n int, to outcome) []Event {
	events := make([]Event, n)
	for i := range events {
		seq := int64(len(b.mu.events[1]))
		events[i] = Event{ID: "x", Producer: 1, Seq: seq + int64(i), Life: 1, Amount: 5, At: "t"}
	}
	b.send(events)
	if to != open {
		b.settle(events, to)
	}
	return events
}

// TestBook: each way in which a server may be wrong about events is a violation, and what is right is none.
func TestBook(t *testing.T) {
	for _, c := range []struct {
		name string
		rows func(acked, unknown, refused []Event) []Event
		want string
	}{
		{"right", func(a, u, _ []Event) []Event { return append(a, u[0]) }, ""},
		{"right without what is open", func(a, _, _ []Event) []Event { return a }, ""},
		{"lost", func(a, _, _ []Event) []Event { return a[1:] }, "LOST"},
		{"twice", func(a, _, _ []Event) []Event { return append(a, a[0]) }, "twice"},
		{"open and twice", func(a, u, _ []Event) []Event { return append(a, u[0], u[0]) }, "twice"},
		{"refused", func(a, _, r []Event) []Event { return append(a, r[0]) }, "was refused"},
		{"changed", func(a, _, _ []Event) []Event { a[0].Amount++; return a }, "sent was"},
		{"never sent", func(a, _, _ []Event) []Event { return append(a, Event{Producer: 1, Seq: 99}) }, "never sent"},
	} {
		b := NewBook()
		a, u, r := sent(b, 3, acked), sent(b, 2, open), sent(b, 2, refused)
		b.checkEvents(c.rows(append([]Event{}, a...), u, r), 0)
		err := b.Err()
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestShares: counts and sums of a view are compared with the book.
func TestShares(t *testing.T) {
	for _, c := range []struct {
		name string
		row  byLife
		ok   bool
	}{
		{"right", byLife{1, 1, 3, 15, 2}, true},
		{"one lost", byLife{1, 1, 2, 10, 2}, false},
		{"one too many", byLife{1, 1, 4, 20, 2}, false},
		{"a wrong sum", byLife{1, 1, 3, 16, 2}, false},
		{"of nobody", byLife{2, 1, 3, 15, 2}, false},
	} {
		b := NewBook()
		sent(b, 3, acked)
		b.checkShares([]byLife{c.row})
		if (b.Err() == nil) != c.ok {
			t.Errorf("%s: %v", c.name, b.Err())
		}
	}
}

// TestAccounts: a keyed row is what its owner was told.
func TestAccounts(t *testing.T) {
	b := NewBook()
	b.setAccount(1, &Account{ID: 1, Owner: 2, Balance: 3})
	b.checkAccounts([]Account{{ID: 1, Owner: 2, Balance: 3}})
	if err := b.Err(); err != nil {
		t.Error(err)
	}
	b.checkAccounts([]Account{{ID: 1, Owner: 2, Balance: 4}, {ID: 9}})
	b.checkAccounts(nil)
	if err := b.Err(); err == nil || !strings.HasPrefix(err.Error(), "3 violations") {
		t.Errorf("%v", err)
	}
}

// TestTold: positions are of one log, and are remembered.
func TestTold(t *testing.T) {
	b := NewBook()
	b.told("aaaa.0-5", "durable")
	b.told("aaaa.0-3", "")
	if b.High() != (Position{"aaaa", 5}) || b.Levels()["durable"] != 1 || b.Err() != nil {
		t.Error(b.High(), b.Levels(), b.Err())
	}
	b.told("bbbb.0-9", "")
	b.told("nonsense", "")
	if err := b.Err(); err == nil || !strings.HasPrefix(err.Error(), "2 violations") {
		t.Error(err)
	}
}

// watcher returns a subscriber without a connection, whose rows are complete at position 5.
func watcher(t *testing.T) *Watch {
	t.Helper()
	w := &Watch{book: NewBook(), name: "test"}
	w.mu.rows, w.mu.moved = map[string]*rows{}, make(chan struct{})
	for _, v := range names() {
		w.mu.rows[v] = &rows{view: v}
	}
	for _, v := range names() {
		page := `{"type":"snapshot","id":"` + v + `","position":"l.0-5","key":["id"],"rows":[],"more":false}`
		if v == "whole" {
			page = `{"type":"snapshot","id":"whole","position":"l.0-5","key":[],"rows":[{"n":0}],"more":false}`
		}
		if err := say(t, w, page); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func say(t *testing.T, w *Watch, text string) error {
	t.Helper()
	var f frame
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		t.Fatal(err)
	}
	return w.take(&f, []byte(text))
}

// TestWatch: each way in which a server may mislead a subscriber is noticed with the frame that does it.
func TestWatch(t *testing.T) {
	const first = `{"type":"epoch","position":"l.0-6","at":1.5,"changes":{"events":{"put":[{"id":"a"}]},"whole":{"put":[{"n":1}]}}}`
	for _, c := range []struct{ name, frame, want string }{
		{"right", `{"type":"epoch","position":"l.0-7","at":2,"changes":{"events":{"put":[{"id":"b"}]},"whole":{"put":[{"n":2}]}}}`, ""},
		{"a heartbeat", `{"type":"epoch","position":"l.0-6","at":1.5,"changes":{}}`, ""},
		{"merged", `{"type":"epoch","position":"l.0-9","from":"l.0-4","at":2,"changes":{"events":{"put":[{"id":"a"},{"id":"b"}]},"whole":{"put":[{"n":2}]}}}`, ""},
		{"a position that falls", `{"type":"epoch","position":"l.0-5","at":2,"changes":{}}`, "it fell"},
		{"time that falls", `{"type":"epoch","position":"l.0-7","at":1,"changes":{}}`, "of the time"},
		{"the same position again", `{"type":"epoch","position":"l.0-6","at":1.5,"changes":{"events":{"put":[{"id":"b"}]}}}`, "told before"},
		{"a change that comes twice", `{"type":"epoch","position":"l.0-7","at":2,"changes":{"events":{"put":[{"id":"a"}]}}}`, "twice"},
		{"a row that changes", `{"type":"epoch","position":"l.0-9","from":"l.0-5","at":2,"changes":{"events":{"put":[{"id":"a","x":1}]}}}`, "twice"},
		{"a row that leaves", `{"type":"epoch","position":"l.0-7","at":2,"changes":{"events":{"del":[["a"]]}}}`, "append-only"},
		{"a row that was not there leaves", `{"type":"epoch","position":"l.0-7","at":2,"changes":{"accounts":{"del":[["z"]]}}}`, "was not there"},
		{"views that disagree", `{"type":"epoch","position":"l.0-7","at":2,"changes":{"events":{"put":[{"id":"b"}]}}}`, "the view of their number says"},
		{"merged from later", `{"type":"epoch","position":"l.0-9","from":"l.0-8","at":2,"changes":{}}`, "from l.0-8"},
		{"another log", `{"type":"welcome","log":"m"}`, "welcome to log m"},
		{"a gap that is none", `{"type":"gap","id":"events","kept_from":"l.0-2"}`, "everything from"},
		{"a gap", `{"type":"gap","id":"events","kept_from":"l.0-8"}`, ""},
		{"resumed unasked", `{"type":"resumed","id":"events","position":"l.0-6"}`, "did not ask"},
		{"of nobody", `{"type":"epoch","position":"l.0-7","at":2,"changes":{"nope":{}}}`, "nobody asked"},
		{"something else", `{"type":"error","error":{"code":"x"}}`, "unexpected"},
	} {
		w := watcher(t)
		if err := say(t, w, first); err != nil {
			t.Fatal(err)
		}
		err := say(t, w, c.frame)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestCompare: a change that never came is noticed when the rows are compared with new ones.
func TestCompare(t *testing.T) {
	w := watcher(t)
	w.second, w.secret = &rows{view: "accounts"}, "compare1"
	if err := say(t, w, `{"type":"snapshot","id":"compare1","position":"l.0-5","key":["id"],"rows":[{"id":"missed"}],"more":false}`); err != nil {
		t.Fatal(err)
	}
	err := say(t, w, `{"type":"epoch","position":"l.0-6","at":2,"changes":{}}`)
	if err == nil || !strings.Contains(err.Error(), "only by a snapshot") {
		t.Error(err)
	}
}

// TestDiffer says what two lists of rows differ in.
func TestDiffer(t *testing.T) {
	if d := differ([]string{"a", "a", "b"}, []string{"b", "a", "a"}, "x", "y"); d != "" {
		t.Error(d)
	}
	if d := differ([]string{"a", "a"}, []string{"a"}, "x", "y"); !strings.Contains(d, "only x: a") {
		t.Error(d)
	}
}
