package suites

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// statement is one line of a rows block.
type statement struct {
	rel   *expr.Relation
	op    change.Op
	recs  []change.Record
	given []int  // the columns that were named
	sql   string // as PostgreSQL reads it
}

// batch is what one stamp of a rows block brings.
type batch struct {
	stamp int64
	list  []*statement
}

// parseRows reads a rows block: statements that end with a semicolon, and "at <time>" lines, which begin a new batch. Without one
// the batch is a second after the last.
func parseRows(a *app, input string, last int64) ([]batch, error) {
	out := []batch{{stamp: last + time.Second.Microseconds()}}
	text := ""
	for _, line := range strings.Split(input, "\n") {
		if at, ok := strings.CutPrefix(line, "at "); ok && text == "" {
			when, err := time.Parse("2006-01-02 15:04:05", at)
			if err != nil {
				return nil, err
			}
			if b := &out[len(out)-1]; len(b.list) == 0 {
				b.stamp = when.UnixMicro()
			} else {
				out = append(out, batch{stamp: when.UnixMicro()})
			}
			continue
		}
		text += line + "\n"
		if s, ok := strings.CutSuffix(strings.TrimSpace(text), ";"); ok {
			st, err := parseStatement(a, s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s, err)
			}
			b := &out[len(out)-1]
			b.list = append(b.list, st)
			text = ""
		}
	}
	if strings.TrimSpace(text) != "" {
		return nil, fmt.Errorf("no semicolon after %s", text)
	}
	return out, nil
}

// parseStatement reads INSERT INTO, UPSERT INTO, UPDATE and DELETE FROM with constants.
func parseStatement(a *app, text string) (*statement, error) {
	w := words(text)
	s := &statement{sql: text}
	var err error
	name := 2
	switch strings.ToUpper(w.at(0)) {
	case "INSERT":
		s.op = change.OpInsert
	case "UPSERT":
		s.op = change.OpMerge
	case "DELETE":
		s.op = change.OpDelete
	case "UPDATE":
		s.op, name = change.OpUpdate, 1
	default:
		return nil, fmt.Errorf("what is %q", w.at(0))
	}
	if s.rel, err = a.table(w.at(name)); err != nil {
		return nil, err
	}
	w = w[name+1:]
	switch s.op {
	case change.OpDelete:
		filter, err := w.filter()
		s.recs = []change.Record{{Filter: filter}}
		return s, err
	case change.OpUpdate:
		return s, s.update(w)
	}
	if err := s.values(w); err != nil {
		return nil, err
	}
	s.conflict()
	return s, nil
}

// conflict puts into the statement for PostgreSQL what is done about a key that is there.
func (s *statement) conflict() {
	t := s.rel.Table.Table
	key := make([]string, len(t.PrimaryKey))
	for i, k := range t.PrimaryKey {
		key[i] = t.Columns[k].Name
	}
	switch {
	case s.op == change.OpMerge:
		var set []string
		for _, c := range s.given {
			set = append(set, t.Columns[c].Name+" = excluded."+t.Columns[c].Name)
		}
		s.sql = "INSERT" + s.sql[len("UPSERT"):] + " ON CONFLICT (" + strings.Join(key, ", ") + ") DO UPDATE SET " + strings.Join(set, ", ")
	case t.AppendOnly && len(key) > 0:
		s.sql += " ON CONFLICT DO NOTHING"
	}
}

// values reads [(columns)] VALUES (..), (..).
func (s *statement) values(w tokens) error {
	cols := s.rel.Table.Table.Columns
	if w.at(0) == "(" {
		for w = w[1:]; w.at(0) != ")"; w = w[1:] {
			if w.at(0) == "," {
				continue
			}
			i := s.column(w.at(0))
			if i < 0 {
				return fmt.Errorf("no column %q", w.at(0))
			}
			s.given = append(s.given, i)
		}
		w = w[1:]
	} else {
		for i := range cols {
			s.given = append(s.given, i)
		}
	}
	for w = w[1:]; len(w) > 0; w = w[1:] { // behind VALUES and between rows
		if w.at(0) == "," {
			w = w[1:]
		}
		row := make([]change.Value, len(cols))
		for i := range row {
			row[i] = change.Null()
		}
		w = w[1:]
		for i := 0; w.at(0) != ")" && len(w) > 0; w = w[1:] {
			if w.at(0) == "," {
				continue
			}
			if i == len(s.given) {
				return fmt.Errorf("too many values")
			}
			var err error
			if row[s.given[i]], err = s.value(s.given[i], w[0]); err != nil {
				return err
			}
			i++
		}
		s.recs = append(s.recs, change.Record{Row: s.rel.Table.Layout.Append(nil, row), Given: s.bitmap()})
	}
	return nil
}

// update reads SET column = value, .. WHERE ...
func (s *statement) update(w tokens) error {
	row := make([]change.Value, len(s.rel.Table.Table.Columns))
	for i := range row {
		row[i] = change.Null()
	}
	for w = w[1:]; len(w) > 2 && !strings.EqualFold(w.at(0), "where"); w = w[3:] {
		if w.at(0) == "," {
			w = w[1:]
		}
		i := s.column(w.at(0))
		if i < 0 || w.at(1) != "=" {
			return fmt.Errorf("no column %q", w.at(0))
		}
		v, err := s.value(i, w[2])
		if err != nil {
			return err
		}
		row[i], s.given = v, append(s.given, i)
	}
	filter, err := w.filter()
	s.recs = []change.Record{{Row: s.rel.Table.Layout.Append(nil, row), Given: s.bitmap(), Filter: filter}}
	return err
}

func (s *statement) bitmap() []byte {
	b := make([]byte, (len(s.rel.Table.Table.Columns)+7)/8)
	for _, i := range s.given {
		b[i/8] |= 1 << (i % 8)
	}
	return b
}

func (s *statement) column(name string) int {
	for i, c := range s.rel.Table.Table.Columns {
		if c.Name == name {
			return i
		}
	}
	return -1
}

func (s *statement) value(i int, word string) (change.Value, error) {
	if strings.EqualFold(word, "null") {
		return change.Null(), nil
	}
	v, _, err := expr.ParseText(s.rel.Table.Table.Columns[i].Type, []byte(unquote(word)), nil)
	return v, err
}

// entries returns the statement as the log has it.
func (s *statement) entries() []change.Entry {
	e := change.Entry{Kind: change.EntryWrite, Op: s.op, Last: true, Table: s.rel.Table.Catalog, Version: s.rel.Table.Version, Count: uint32(len(s.recs))}
	for i := range s.recs {
		e.Body = change.AppendRecord(e.Body, s.op, &s.recs[i])
	}
	return []change.Entry{e}
}

// each returns an entry for each record.
func (s *statement) each() []change.Entry {
	var out []change.Entry
	for i := range s.recs {
		one := *s
		one.recs = s.recs[i : i+1]
		out = append(out, one.entries()...)
	}
	return out
}

// tokens are the words, quoted texts and symbols of a statement.
type tokens []string

func (w tokens) at(i int) string {
	if i < len(w) {
		return w[i]
	}
	return ""
}

// filter reads WHERE column = value [AND ..].
func (w tokens) filter() ([]byte, error) {
	if !strings.EqualFold(w.at(0), "where") {
		return nil, fmt.Errorf("no WHERE")
	}
	var parts []string
	for w = w[1:]; len(w) > 0; w = w[min(4, len(w)):] {
		if len(w) < 3 || w.at(1) != "=" || len(w) > 3 && !strings.EqualFold(w.at(3), "and") {
			return nil, fmt.Errorf("WHERE takes column = value AND ..")
		}
		parts = append(parts, w.at(0)+"=eq."+url.QueryEscape(unquote(w.at(2))))
	}
	return []byte(strings.Join(parts, "&")), nil
}

func unquote(w string) string {
	if strings.HasPrefix(w, "'") {
		return strings.ReplaceAll(w[1:len(w)-1], "''", "'")
	}
	return w
}

func words(s string) tokens {
	var out tokens
	symbols := []byte("(),=")
	for i := 0; i < len(s); {
		from := i
		switch {
		case s[i] == ' ' || s[i] == '\n' || s[i] == '\t':
			i++
			continue
		case s[i] == '\'':
			for i++; i < len(s); i++ {
				if s[i] == '\'' {
					if i+1 < len(s) && s[i+1] == '\'' {
						i++
						continue
					}
					break
				}
			}
			i++
		case bytes.IndexByte(symbols, s[i]) >= 0:
			i++
		default:
			for i < len(s) && !slices.Contains([]byte(" \n\t'(),="), s[i]) {
				i++
			}
		}
		out = append(out, s[from:min(i, len(s))])
	}
	return out
}
