package node

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql"
)

// maxFile is the longest schema file that is read, white space included, in bytes.
const maxFile = 1 << 20

// AppFiles returns what reads the files that the app.sql in a folder names. Nothing outside of the folder is read, whatever links there are.
func AppFiles(dir string) sql.Files {
	return func(name string) ([]byte, error) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, err
		}
		defer root.Close() //nolint:errcheck // nothing was written
		f, err := root.Open(filepath.FromSlash(name))
		if errors.Is(err, os.ErrNotExist) {
			return nil, errors.New("there is no such file")
		}
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // nothing was written
		text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
		if err == nil && len(text) > maxFile {
			return nil, fmt.Errorf("it is larger than %d bytes", maxFile)
		}
		return text, err
	}
}

// Source is an app as it is deployed.
type Source struct {
	File  string // the name of app.sql, for messages
	SQL   []byte
	Files sql.Files // that it names
}

// ReadSource reads the app in a folder, and every file that it names.
func ReadSource(dir string) (Source, map[string]string, error) {
	file, src, err := readApp(dir)
	if err != nil {
		return Source{}, nil, err
	}
	read, texts := AppFiles(dir), map[string]string{}
	for _, name := range sql.Schemas(src) {
		if text, err := read(name); err == nil { // else the compiler says so, with the place
			texts[name] = string(text)
		}
	}
	return Source{file, src, read}, texts, nil
}

// given returns the files that a request carries.
func given(texts map[string]string) sql.Files {
	return func(name string) ([]byte, error) {
		if text, ok := texts[name]; ok {
			return []byte(text), nil
		}
		return nil, errors.New("the file did not come with app.sql")
	}
}

// onDisk returns what the app in a folder is made of, to see whether it was saved: its SQL and the files that this names.
func onDisk(dir string) string {
	src, texts, err := ReadSource(dir)
	if err != nil {
		return ""
	}
	return together(string(src.SQL), texts)
}

// running returns the same of a program. White space of schemas counts for nothing.
func running(p *flow.Program) string {
	catalog, err := sql.ParseCatalog(p.Catalog)
	if err != nil {
		return ""
	}
	return together(catalog.Source, catalog.Files())
}

func together(src string, texts map[string]string) string {
	var b strings.Builder
	b.WriteString(src)
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		var text bytes.Buffer
		if json.Compact(&text, []byte(texts[name])) != nil {
			text.WriteString(texts[name])
		}
		fmt.Fprintf(&b, "\x00%s\x00%s", name, &text)
	}
	return b.String()
}

// PlanAgainst says what the app in dir would do to another version of it, of which there is only the text: a folder or its app.sql.
func PlanAgainst(dir, other string) (*Plan, error) {
	if info, err := os.Stat(other); err == nil && !info.IsDir() {
		if filepath.Base(other) != "app.sql" {
			return planAgainst(dir, Source{File: other, Files: AppFiles(filepath.Dir(other))})
		}
		other = filepath.Dir(other)
	}
	old, _, err := ReadSource(other)
	if err != nil {
		return nil, err
	}
	return planAgainst(dir, old)
}

func planAgainst(dir string, old Source) (*Plan, error) {
	var err error
	if old.SQL == nil {
		if old.SQL, err = os.ReadFile(old.File); err != nil {
			return nil, err
		}
	}
	was, found := sql.CompileFiles(old.File, old.SQL, nil, old.Files)
	if was == nil {
		return nil, &AppError{found}
	}
	prev, err := sql.ParseCatalog(was.Catalog)
	if err != nil {
		return nil, err
	}
	src, _, err := ReadSource(dir)
	if err != nil {
		return nil, err
	}
	program, found := sql.CompileFiles(src.File, src.SQL, prev, src.Files)
	p := &Plan{Findings: append([]sql.Diagnostic{}, found...), Differences: []sql.Difference{}, Views: []ViewChange{}, Verdict: verdictRefused}
	if program == nil {
		return p, nil
	}
	verdict, differences := sql.Compare(prev, program)
	nameBroken(differences, was, nil, nil)
	p.Differences, p.Verdict = append(p.Differences, differences...), verdictOf(verdict)
	return p, nil
}

// heldVersions returns which schema versions of a table the log may still have rows of. The first entry of a table that the log holds tells: versions ascend
// with positions. What is not met within lookBytes is taken to be there.
func (n *Node) heldVersions(prev *sql.Catalog) func(table string, version uint32) bool {
	var oldest map[uint32]uint32 // by table; nil: not looked yet
	return func(name string, version uint32) bool {
		if n.shard.First() <= 1 {
			return true
		}
		if oldest == nil {
			oldest = map[uint32]uint32{}
			n.entries(n.shard.First(), func(e *change.Entry, _ int64) {
				if _, met := oldest[e.Table]; !met {
					oldest[e.Table] = e.Version
				}
			})
		}
		for i := range prev.Tables {
			if t := &prev.Tables[i]; t.Name == name {
				return version >= oldest[t.ID]
			}
		}
		return true
	}
}

// How much of the log a plan looks at: at its beginning for the versions that it holds, at its end for who writes.
const (
	lookBytes   = 32 << 20
	lookBatches = 5000
)

// entries calls yield for the writes in the log from a batch on, up to lookBytes of them. stamp is the time of their batch in microseconds since 1970.
func (n *Node) entries(from uint64, yield func(e *change.Entry, stamp int64)) {
	left := lookBytes
	err := n.shard.Replay(n.leaving, from, func(b *change.Batch) error {
		if left -= len(b.Raw()); left < 0 {
			return errEnough
		}
		e, it := change.Entry{}, b.Entries()
		for it.Next(&e) {
			if e.Kind == change.EntryWrite {
				yield(&e, b.Header().Stamp)
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		n.opt.Logger.Warn("the log was not read for a plan", "error", err.Error())
	}
}

// maxWriters is how many of those who wrote into a table are named.
const maxWriters = 5

// writer is who wrote into a table, as the log's entries say.
type writer struct {
	subject, role string
	rows          uint64
	last          int64 // stamp
}

// writers returns who wrote into tables in the newest part of the log, by catalog id, the latest first.
func (n *Node) writers() map[uint32][]writer {
	from := n.shard.First()
	if head := n.shard.Head(); head > lookBatches {
		from = max(from, head-lookBatches)
	}
	type who struct {
		table         uint32
		subject, role string
	}
	all := map[who]*writer{}
	n.entries(from, func(e *change.Entry, stamp int64) {
		w := all[who{e.Table, string(e.Subject), string(e.Role)}] // no copies
		if w == nil {
			if len(all) >= 10_000 {
				return
			}
			w = &writer{subject: string(e.Subject), role: string(e.Role)}
			all[who{e.Table, w.subject, w.role}] = w
		}
		w.rows, w.last = w.rows+uint64(e.Rows()), stamp
	})
	out := map[uint32][]writer{}
	for k, w := range all {
		out[k.table] = append(out[k.table], *w)
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b writer) int {
			return cmp.Or(cmp.Compare(b.last, a.last), strings.Compare(a.subject, b.subject), strings.Compare(a.role, b.role))
		})
	}
	return out
}

// nameBroken adds to refused differences who would break.
func (n *Node) nameBroken(list []sql.Difference, running *flow.Program) {
	if !slices.ContainsFunc(list, func(d sql.Difference) bool { return d.Refused }) {
		return
	}
	wrote := n.writers()
	var reading func(string) int
	if n.hub != nil { // else this is a start
		reading = n.hub.Subscriptions
	}
	nameBroken(list, running, func(table uint32) []writer { return wrote[table] }, reading)
}

// nameBroken adds to refused differences who would break, as far as is known: who may write and read by the grants, who did, and who reads now. The functions
// may be nil.
func nameBroken(list []sql.Difference, p *flow.Program, wrote func(table uint32) []writer, reading func(relation string) int) {
	named := map[string][]string{}
	for i := range list {
		d := &list[i]
		if !d.Refused || d.Relation == "" {
			continue
		}
		if _, done := named[d.Relation]; !done {
			named[d.Relation] = broken(p, d.Relation, wrote, reading)
		}
		d.Breaks = named[d.Relation]
	}
}

func broken(p *flow.Program, name string, wrote func(table uint32) []writer, reading func(relation string) int) []string {
	at := slices.IndexFunc(p.Relations, func(r *expr.Relation) bool { return r.Name == name })
	if at < 0 {
		return nil
	}
	var out []string
	rel := p.Relations[at]
	if rel.Table != nil {
		s := "writers of " + name + ":" + granted(p.Definition, name, app.Insert|app.Update|app.Delete) + owned(rel.Table.Table.Options)
		if wrote != nil {
			s += wroteText(wrote(rel.Table.Catalog))
		}
		out = append(out, s)
	}
	for i := range p.Relations {
		r := p.Relations[i]
		if i != at && !flow.Reads(p, i, at) || !readable(p.Definition, r.Name) {
			continue
		}
		s := "readers of " + r.Name + ":" + granted(p.Definition, r.Name, app.Select)
		for _, v := range p.Definition.Views {
			if v.Name == r.Name {
				s += owned(v.Options)
			}
		}
		if reading != nil {
			s += fmt.Sprintf(", %d live now", reading(r.Name))
		}
		out = append(out, s)
	}
	return out
}

// granted lists the roles that may do something with a relation.
func granted(def *app.Definition, relation string, any app.Privilege) string {
	var roles []string
	for _, g := range def.Grants {
		if g.Relation == relation && g.Allow&any != 0 && !slices.Contains(roles, g.Role) {
			roles = append(roles, g.Role)
		}
	}
	if slices.Sort(roles); len(roles) == 0 {
		return " no role"
	}
	return " " + strings.Join(roles, ", ")
}

func owned(options map[string]string) string {
	if owner := options["owner"]; owner != "" {
		return ", owner " + owner
	}
	return ""
}

func wroteText(list []writer) string {
	if len(list) == 0 {
		return "; nobody wrote of late"
	}
	s := "; of late"
	for i, w := range list[:min(len(list), maxWriters)] {
		if i > 0 {
			s += ","
		}
		s += fmt.Sprintf(" %s as %s (%d rows, last %s)", strconv.Quote(w.subject), w.role, w.rows, time.UnixMicro(w.last).UTC().Format(time.RFC3339))
	}
	if more := len(list) - maxWriters; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

func verdictOf(c sql.Change) string {
	return [...]string{sql.Same: verdictSame, sql.Compatible: verdictCompatible, sql.Refused: verdictRefused}[c]
}

// warnReaders says which columns of views readers will miss after this start.
func (n *Node) warnReaders(differences []sql.Difference) {
	for i := range differences {
		if differences[i].Refused {
			n.opt.Logger.Warn("app.sql changed: readers of a view may miss what they knew", "change", differences[i].String())
		}
	}
}
