package conform

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// query is what a client asks for.
type query struct {
	View   string `json:"view"`
	Filter string `json:"filter,omitempty"`
	Select string `json:"select,omitempty"`
	Order  string `json:"order,omitempty"`
	Limit  int    `json:"limit,omitempty"`
}

// url is the query as parameters of a read, each behind an ampersand.
func (q *query) url() string {
	var b strings.Builder
	if q.Filter != "" {
		b.WriteString("&" + q.Filter)
	}
	if q.Select != "" {
		b.WriteString("&select=" + url.QueryEscape(q.Select))
	}
	if q.Order != "" {
		b.WriteString("&order=" + url.QueryEscape(q.Order))
	}
	if q.Limit > 0 {
		b.WriteString("&limit=" + strconv.Itoa(q.Limit))
	}
	return b.String()
}

// position splits a position into its log and its sequence.
func position(text string) (log string, seq uint64, err error) {
	log, rest, ok := strings.Cut(text, ".")
	_, number, ok2 := strings.Cut(rest, "-")
	if seq, err = strconv.ParseUint(number, 10, 64); !ok || !ok2 || err != nil {
		return "", 0, fmt.Errorf("%q is no position", text)
	}
	return log, seq, nil
}

// row is a row of the model: column to value, whole numbers as float64.
type row map[string]any

// canonical is a row as text that is the same for equal rows: members in the order of their names.
func canonical(raw json.RawMessage) string {
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return string(raw)
	}
	out, _ := json.Marshal(v) // it was JSON
	return string(out)
}

func (r row) text() string {
	out, _ := json.Marshal(r) // of values out of JSON; members are sorted
	return string(out)
}

// version is what a row was from a position on; nil: it was not there.
type version struct {
	seq uint64
	row row
}

// model is the tables of apps/votes.sql over all positions, and what the views over them show.
type model struct {
	big    float64 // the least points of view big: another app has another
	log    string
	tables map[string]map[string][]version // by table and key
	writes int                             // how often it changed
}

func newModel() *model {
	return &model{big: 5, tables: map[string]map[string][]version{"votes": {}, "rooms": {}}}
}

// put takes a row that was written at a position: whole for a new key, else the given columns.
func (m *model) put(table, at string, r row) error {
	log, seq, err := position(at)
	if err != nil {
		return err
	}
	m.writes++
	if m.log == "" {
		m.log = log
	}
	if log != m.log {
		return fmt.Errorf("written at %s, in another log than %s", at, m.log)
	}
	key := fmt.Sprint(r[map[string]string{"votes": "id", "rooms": "name"}[table]])
	all := m.tables[table][key]
	whole := row{"note": nil}
	if table == "votes" {
		whole["points"] = float64(1)
	}
	if n := len(all); n > 0 && all[n-1].row != nil {
		if table == "votes" { // the same id again: one vote, the first
			if seq < all[0].seq {
				all[0].seq = seq
			}
			return nil
		}
		for c, v := range all[n-1].row {
			whole[c] = v
		}
	}
	for c, v := range r {
		whole[c] = v
	}
	m.tables[table][key] = append(all, version{seq, whole})
	return nil
}

// del takes the deletion of a room.
func (m *model) del(key, at string) error {
	_, seq, err := position(at)
	m.writes++
	if err == nil {
		m.tables["rooms"][key] = append(m.tables["rooms"][key], version{seq, nil})
	}
	return err
}

// forget drops what came after a position: the server was set back to it.
func (m *model) forget(seq uint64) {
	m.writes++
	for _, t := range m.tables {
		for k, all := range t {
			t[k] = slices.DeleteFunc(all, func(v version) bool { return v.seq > seq })
		}
	}
}

// table returns the rows of a table at a position.
func (m *model) table(name string, seq uint64) []row {
	var out []row
	for _, all := range m.tables[name] {
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].seq <= seq {
				if all[i].row != nil {
					out = append(out, all[i].row)
				}
				break
			}
		}
	}
	return out
}

// knows reports whether the model can say what a view shows.
func (m *model) knows(view string) bool {
	return slices.Contains([]string{"votes", "rooms", "tally", "big", "podium", "placed"}, view)
}

// key is the key column of a view.
func key(view string) string {
	switch view {
	case "rooms":
		return "name"
	case "tally":
		return "who"
	}
	return "id"
}

// view returns the rows of a view at a position, in no order.
func (m *model) view(name string, seq uint64) []row {
	votes := m.table("votes", seq)
	var out []row
	switch name {
	case "votes":
		return votes
	case "rooms":
		return m.table("rooms", seq)
	case "tally":
		sums := map[string][2]float64{}
		for _, v := range votes {
			s := sums[v["who"].(string)]
			sums[v["who"].(string)] = [2]float64{s[0] + 1, s[1] + v["points"].(float64)}
		}
		for who, s := range sums {
			out = append(out, row{"who": who, "votes": s[0], "points": s[1]})
		}
	case "big":
		for _, v := range votes {
			if v["points"].(float64) >= m.big {
				out = append(out, row{"id": v["id"], "run": v["run"], "who": v["who"], "points": v["points"]})
			}
		}
	case "podium":
		slices.SortFunc(votes, func(a, b row) int {
			return cmp.Or(-compare(a["points"], b["points"]), compare(a["id"], b["id"]))
		})
		for _, v := range votes[:min(3, len(votes))] {
			out = append(out, row{"id": v["id"], "who": v["who"], "points": v["points"]})
		}
	case "placed":
		sizes := map[any]any{}
		for _, r := range m.table("rooms", seq) {
			sizes[r["name"]] = r["size"]
		}
		for _, v := range votes {
			if size, ok := sizes[v["run"]]; ok {
				out = append(out, row{"id": v["id"], "who": v["who"], "points": v["points"], "size": size})
			}
		}
	}
	return out
}

// rows returns what a query shows at a position, as text, in the query's order, else by key.
func (m *model) rows(q *query, seq uint64) ([]string, error) {
	all := m.view(q.View, seq)
	conditions, err := url.ParseQuery(q.Filter)
	if err != nil {
		return nil, err
	}
	for column, terms := range conditions {
		for _, term := range terms {
			all = slices.DeleteFunc(slices.Clone(all), func(r row) bool { return !holds(r[column], term) })
		}
	}
	by := q.Order
	if by != "" {
		by += ","
	}
	order := strings.Split(by+key(q.View), ",")
	slices.SortFunc(all, func(a, b row) int {
		for _, o := range order {
			column, how, _ := strings.Cut(o, ".")
			if c := compare(a[column], b[column]); c != 0 && how == "desc" {
				return -c
			} else if c != 0 {
				return c
			}
		}
		return 0
	})
	if q.Limit > 0 {
		all = all[:min(q.Limit, len(all))]
	}
	out := []string{}
	for _, r := range all {
		if q.Select != "" {
			part := row{}
			for _, c := range append(strings.Split(q.Select, ","), key(q.View)) {
				part[c] = r[c]
			}
			r = part
		}
		out = append(out, r.text())
	}
	return out, nil
}

// compare orders two values of one column; null is the largest.
func compare(a, b any) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	if n, ok := a.(float64); ok {
		return cmp.Compare(n, b.(float64))
	}
	return cmp.Compare(a.(string), b.(string))
}

// holds reports whether a value meets a condition such as gt.5.
func holds(v any, term string) bool {
	op, text, _ := strings.Cut(term, ".")
	if op == "in" {
		return slices.ContainsFunc(strings.Split(strings.Trim(text, "()"), ","), func(one string) bool { return holds(v, "eq."+one) })
	}
	if v == nil {
		return op == "is" && text == "null"
	}
	var c int
	if n, ok := v.(float64); ok {
		want, _ := strconv.ParseFloat(text, 64) // scenarios write numbers where there are numbers
		c = cmp.Compare(n, want)
	} else {
		c = cmp.Compare(v.(string), text)
	}
	switch op {
	case "eq":
		return c == 0
	case "neq":
		return c != 0
	case "gt":
		return c > 0
	case "gte":
		return c >= 0
	case "lt":
		return c < 0
	case "lte":
		return c <= 0
	}
	return false
}
