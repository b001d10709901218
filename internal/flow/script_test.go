package flow_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected output of testdata/*.txt; read the diff")

// TestScripts runs testdata/*.txt. A script is a list of blocks: a command line, input lines, a line of four dashes, the
// expected output, a blank line. Commands:
//
//	app                               the input is app.sql; starts an engine and applies its definition
//	insert|merge|ignore <table> [opt] the input is rows, cells in PostgreSQL's syntax separated by |; with columns=a,b only these
//	update <table> <filter>           the input is column=value lines
//	delete <table> <filter>
//	show <relation>                   its rows by key; ids of errors, which depend on the plan, are #
//	begin, commit                     writes in between are one batch
//	advance <duration>                moves the next batch's stamp
//	errors <view>                     how many rows are missing, and why
//	memory                            keys remembered
//
// Options: atomic, server (server-made ids), key=, hash=, subject=, first=, more (not the last part).
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { runScript(t, f) })
	}
}

func runScript(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s := &script{t: t}
	blocks := strings.Split(strings.TrimRight(string(data), "\n"), "\n\n")
	for _, block := range blocks {
		in, want, ok := strings.Cut(block, "\n----")
		if !ok { // a comment
			out.WriteString(block + "\n\n")
			continue
		}
		command, input, _ := strings.Cut(in, "\n")
		for strings.HasPrefix(command, "#") {
			command, input, _ = strings.Cut(input, "\n")
		}
		got := strings.TrimRight(s.run(command, input), "\n")
		if want = strings.Trim(want, "\n"); got != want && !*rewrite {
			t.Errorf("%s: %s\ngot\n%s\nwant\n%s", file, in, got, want)
		}
		out.WriteString(in + "\n----\n" + strings.TrimLeft(got+"\n\n", "\n"))
		if got == "" {
			out.WriteString("\n")
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.TrimRight(out.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var errorIDs = regexp.MustCompile(`\|[0-9a-f]{32}\|`)

type script struct {
	t      *testing.T
	p      *flow.Program
	d      *driver
	queue  []change.Entry
	queued bool
}

func (s *script) run(command, input string) string {
	words := strings.Fields(command)
	switch words[0] {
	case "app":
		return s.app(input)
	case "begin":
		s.queued = true
		return ""
	case "commit":
		s.queued = false
		entries := s.queue
		s.queue = nil
		return s.epoch(s.d.apply(entries...))
	case "advance":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.d.stamp += d.Microseconds()
		return ""
	case "show":
		return errorIDs.ReplaceAllString(s.d.table(relationNamed(s.t, s.p, words[1]).ID), "|#|")
	case "errors":
		return s.errors(words[1])
	case "memory":
		st := s.d.e.Stats()
		return fmt.Sprintf("%d keys, %d requests", st.Seen, st.Requests)
	}
	en := s.entry(words, input)
	if s.queued {
		s.queue = append(s.queue, en)
		return ""
	}
	return s.epoch(s.d.apply(en))
}

func (s *script) app(src string) string {
	p, diags := sql.Compile("app.sql", []byte(src), nil)
	if p == nil {
		var b strings.Builder
		for _, d := range diags {
			b.WriteString(d.Render() + "\n")
		}
		return b.String()
	}
	s.p, s.d = system(p), newDriver(s.t, p, flow.Options{})
	return s.epoch(s.d.apply(change.Entry{Kind: change.EntryDefinition, Body: p.Catalog}))
}

func (s *script) entry(words []string, input string) change.Entry {
	rel := relationNamed(s.t, s.p, words[1])
	op := map[string]change.Op{"insert": change.OpInsert, "merge": change.OpMerge, "ignore": change.OpIgnore,
		"update": change.OpUpdate, "delete": change.OpDelete}[words[0]]
	opts := map[string]string{}
	for _, w := range words[2:] {
		k, v, _ := strings.Cut(w, "=")
		opts[k] = v
	}
	_, server := opts["server"]
	var recs []change.Record
	switch op {
	case 0:
		s.t.Fatalf("unknown command %s", words[0])
	case change.OpUpdate, change.OpDelete:
		rec := change.Record{Filter: []byte(words[2])}
		if op == change.OpUpdate {
			rec.Row, rec.Given = s.assignments(rel, input)
		}
		recs = append(recs, rec)
	default:
		for _, line := range strings.Split(input, "\n") {
			rec := change.Record{ServerID: server}
			rec.Row, rec.Given = s.cells(rel, opts["columns"], line)
			recs = append(recs, rec)
		}
	}
	en := records(rel.Table.Catalog, op, recs...)
	en.Version = rel.Table.Version
	_, en.Atomic = opts["atomic"]
	_, more := opts["more"]
	en.Last = !more
	en.Key, en.Subject = []byte(opts["key"]), []byte(opts["subject"])
	if len(en.Key) > 0 {
		en.BodyHash = 1 + s.number(opts["hash"])
	}
	en.First = uint32(s.number(opts["first"]))
	return en
}

func (s *script) number(text string) uint64 {
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *script) assignments(rel *expr.Relation, input string) (change.Row, []byte) {
	var names, cells []string
	for _, line := range strings.Split(input, "\n") {
		k, v, _ := strings.Cut(line, "=")
		names, cells = append(names, k), append(cells, v)
	}
	return s.cells(rel, strings.Join(names, ","), strings.Join(cells, "|"))
}

// cells reads one row; columns lists those given, all when empty.
func (s *script) cells(rel *expr.Relation, columns, line string) (change.Row, []byte) {
	cols := rel.Table.Table.Columns
	text := make([]string, len(cols))
	given := make([]byte, (len(cols)+7)/8)
	cells := strings.Split(line, "|")
	at := 0
	for i, c := range cols {
		text[i] = "NULL"
		if columns != "" && !strings.Contains(","+columns+",", ","+c.Name+",") {
			continue
		}
		if at >= len(cells) {
			s.t.Fatalf("too few cells: %s", line)
		}
		given[i/8] |= 1 << (i % 8)
		text[i] = cells[at]
		at++
	}
	return row(s.t, rel.Table.Layout, strings.Join(text, "|")), given
}

// epoch prints outcomes that are not plain, then changes.
func (s *script) epoch(e *change.Epoch) string {
	var b strings.Builder
	for i, o := range e.Outcomes {
		if o.Accepted+o.Duplicates == 0 && len(o.Rejected) == 0 && o.Replayed == 0 && i == 0 && e.Seq == 1 {
			continue // the definition
		}
		fmt.Fprintf(&b, "accepted %d", o.Accepted)
		if o.Duplicates > 0 {
			fmt.Fprintf(&b, ", duplicates %d", o.Duplicates)
		}
		if o.Replayed > 0 {
			fmt.Fprintf(&b, ", replayed from %d", o.Replayed)
		}
		b.WriteByte('\n')
		for _, r := range o.Rejected {
			fmt.Fprintf(&b, "  %d: %s %s: %s\n", r.Index, r.Code, r.Field, r.Detail)
		}
	}
	for _, d := range e.Deltas {
		rel := s.p.Relations[d.Relation]
		if d.Relation == s.p.Errors { // "show laaster.errors" has them
			continue
		}
		for _, c := range d.Changes {
			switch {
			case c.Old == nil:
				fmt.Fprintf(&b, "%s: + %s\n", rel.Name, showRow(rel.Layout, c.New))
			case c.New == nil:
				fmt.Fprintf(&b, "%s: - %s\n", rel.Name, showRow(rel.Layout, c.Old))
			default:
				fmt.Fprintf(&b, "%s: %s -> %s\n", rel.Name, showRow(rel.Layout, c.Old), showRow(rel.Layout, c.New))
			}
		}
	}
	return b.String()
}

func (s *script) errors(view string) string {
	for _, v := range s.d.e.Stats().Views {
		if v.Name != view {
			continue
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%d rows\n", v.Errors)
		for _, r := range v.Reasons {
			fmt.Fprintf(&b, "batch %d: %s\n", r.Seq, r.Reason)
		}
		return b.String()
	}
	s.t.Fatalf("no view %s", view)
	return ""
}
