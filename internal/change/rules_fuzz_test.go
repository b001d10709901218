package change_test

import (
	"bytes"
	"testing"

	"laaster/internal/change"
)

// FuzzRules reads the rules of an entry, the reason of a refused row, the canary and the log id of any bytes: what is taken is written as it was.
func FuzzRules(f *testing.F) {
	f.Add((&change.Rules{Using: []byte("a"), Insert: []byte("bc")}).Append(nil))
	f.Add((&change.Canary{Seq: 7}).Append(nil))
	f.Add([]byte{0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Add([]byte("abcdefghijklmnop"))
	f.Add(change.AppendReject(nil, &change.Reject{Code: "forbidden", Field: "room", Detail: "not this row"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := change.ReadRules(b); err == nil {
			if again, err := change.ReadRules(r.Append(nil)); err != nil || !bytes.Equal(again.Using, r.Using) || !bytes.Equal(again.Check, r.Check) || !bytes.Equal(again.Insert, r.Insert) {
				t.Fatalf("%q reads as %q, which reads as %q: %v", b, r, again, err)
			}
			if len(r.Using)+len(r.Check)+len(r.Insert) > len(b) {
				t.Fatalf("%q: more than there is: %q", b, r)
			}
		}
		if r, err := change.ReadReject(b); err == nil && !bytes.Equal(change.AppendReject(nil, r), b) {
			t.Fatalf("%q is a reason that is written otherwise", b)
		}
		if c, err := change.ParseCanary(b); err == nil && !bytes.Equal(c.Append(nil), b) {
			t.Fatalf("%q is a canary that is written otherwise", b)
		}
		if id, err := change.ParseLogID(string(b)); err == nil && id.String() != string(b) {
			t.Fatalf("%q is a log id that is written %q", b, id)
		}
	})
}
