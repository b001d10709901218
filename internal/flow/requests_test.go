package flow_test

import (
	"reflect"
	"testing"

	"laaster/internal/change"
	"laaster/internal/flow"
)

// judgedEntry is a part of a request of six rows, of which it brings those from first on up to end; those in refused were refused before it was logged.
func judgedEntry(t *testing.T, p *flow.Program, key string, hash uint64, first, end int, refused ...int) change.Entry {
	en := inserts(t, p, "t", change.OpInsert, 0xff)
	en.Key, en.BodyHash, en.First, en.Count, en.Last, en.Body = []byte(key), hash, uint32(first), uint32(end-first), end == 6, nil
	for i := first; i < end; i++ {
		one := inserts(t, p, "t", change.OpInsert, 0xff, string(rune('0'+i))+"|1")
		for _, r := range refused {
			if r == i {
				reason := change.AppendReject(nil, &change.Reject{Code: "forbidden", Detail: "row " + string(rune('0'+i))})
				one.Body, en.Refused = change.AppendRecord(nil, en.Op, &change.Record{Refused: reason}), true
			}
		}
		en.Body = append(en.Body, one.Body...)
	}
	return en
}

// TestRepeatIsJudgedOnce: a request that was cut off goes on behind the rows that were decided, and is answered with what was decided, also when its repeat comes
// with other rows refused; so under a key as with a producer's number.
func TestRepeatIsJudgedOnce(t *testing.T) {
	p := system(compile(t, `CREATE TABLE t (id bigint, v integer) WITH (append_only);
		CREATE MATERIALIZED VIEW n AS SELECT id, count(*) AS n FROM t GROUP BY id;`, nil))
	forbidden := func(rows ...uint32) (out []change.Reject) {
		for _, i := range rows {
			out = append(out, change.Reject{Index: i, Code: "forbidden", Detail: "row " + string(rune('0'+i))})
		}
		return out
	}
	for _, key := range []string{"key", "\x00producer"} {
		for _, c := range []struct {
			name          string
			before, after []int
			want          change.Outcome
			rows          string
		}{
			{name: "a row is allowed now", before: []int{1}, after: nil, want: change.Outcome{Accepted: 5, Rejected: forbidden(1)}, rows: "0|1\n2|1\n3|1\n4|1\n5|1\n"},
			{name: "a row is refused now", before: nil, after: []int{1, 4}, want: change.Outcome{Accepted: 5, Rejected: forbidden(4)}, rows: "0|1\n1|1\n2|1\n3|1\n5|1\n"},
			{name: "others are refused now", before: []int{0, 2}, after: []int{1, 5}, want: change.Outcome{Accepted: 3, Rejected: forbidden(0, 2, 5)}, rows: "1|1\n3|1\n4|1\n"},
			{name: "all are refused now", before: []int{0}, after: []int{0, 1, 2, 3, 4, 5}, want: change.Outcome{Accepted: 2, Rejected: forbidden(0, 3, 4, 5)}, rows: "1|1\n2|1\n"},
		} {
			t.Run(c.name, func(t *testing.T) {
				d := newDriver(t, p, flow.Options{})
				d.apply(judgedEntry(t, p, key, 7, 0, 3, c.before...))
				if out := d.apply(judgedEntry(t, p, key, 7, 0, 6, c.after...)).Outcomes[0]; !reflect.DeepEqual(out, c.want) {
					t.Errorf("the repeat: %+v, want %+v", out, c.want)
				}
				for _, refused := range [][]int{c.before, c.after, {0, 1, 2, 3, 4, 5}} {
					out := d.apply(judgedEntry(t, p, key, 7, 0, 6, refused...)).Outcomes[0]
					if out.Replayed == 0 {
						t.Errorf("with %v refused it is no repeat", refused)
					}
					if out.Replayed = 0; !reflect.DeepEqual(out, c.want) {
						t.Errorf("with %v refused: %+v, want %+v", refused, out, c.want)
					}
				}
				if got := d.table(1); got != c.rows {
					t.Errorf("rows %q, want %q", got, c.rows)
				}
			})
		}
	}
	// Nothing of it was done: a key is free then, a number of a producer is used up.
	d := newDriver(t, p, flow.Options{})
	for i, key := range []string{"key", "\x00producer"} {
		d.apply(judgedEntry(t, p, key, 7, 0, 6, 0, 1, 2, 3, 4, 5))
		if out := d.apply(judgedEntry(t, p, key, 7, 0, 6, 0)).Outcomes[0]; (out.Accepted == 5) != (i == 0) || (out.Replayed == 0) != (i == 0) {
			t.Errorf("%q after all rows were refused: %+v", key, out)
		}
	}
}
