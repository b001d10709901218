package suites

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestScripts runs testdata/*.txt here. Rewrite them, with PostgreSQL's answers, by: go test ./test/suites -update
func TestScripts(t *testing.T) {
	for _, s := range readScripts(t) {
		t.Run(s.title(), func(t *testing.T) {
			if *update {
				t.Skip("TestPostgres rewrites the scripts")
			}
			runScript(t, s, nil)
		})
	}
}

// TestPostgres runs testdata/*.txt in PostgreSQL too: what the scripts say is what it says.
func TestPostgres(t *testing.T) {
	pg := newOracle(t)
	for _, s := range readScripts(t) {
		t.Run(s.title(), func(t *testing.T) {
			runScript(t, s, pg)
			if *update {
				if err := os.WriteFile(s.file, []byte(s.text()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func (s *script) title() string { return strings.TrimSuffix(filepath.Base(s.file), ".txt") }

func runScript(t *testing.T, s *script, pg *oracle) {
	base := s.features[0]
	for _, f := range s.features {
		if f.tables != "" {
			base = f
		}
		r := &run{t: t, file: s.file, f: f, base: base, views: map[*block][]*watched{}}
		r.pg, r.stamp = pg, begin().UnixMicro()-1_000_000
		if err := r.start(); err != nil {
			t.Errorf("%s: %s: %v", s.file, f.name, err)
			continue
		}
		for _, b := range f.blocks {
			r.block(b)
		}
		if a, b := r.main.e.Fingerprint(), r.cut.e.Fingerprint(); a != b {
			t.Errorf("%s: %s: the fingerprint depends on how the rows are cut into batches", s.file, f.name)
		}
	}
}

// run is one feature under way.
type run struct {
	player
	t     *testing.T
	file  string
	f     *feature
	base  *feature // whose tables and first rows it has: its own, or the nearest above it
	app   *app
	views map[*block][]*watched
	shown []*watched // views whose contents were printed: rows blocks print how they change
}

// watched is one view on both sides.
type watched struct {
	*view
	b     *block
	query string   // in PostgreSQL; "": it is not asked
	there string   // PostgreSQL's objection to the view
	last  []string // its lines when they were printed or changed last
}

func (r *run) start() error {
	var list []*view
	for _, b := range r.f.blocks {
		for _, w := range watch(b) {
			r.views[b] = append(r.views[b], w)
			list = append(list, w.view)
		}
	}
	var err error
	if r.app, err = compileApp(r.base.tables, list); err != nil {
		return err
	}
	if r.main, err = newEngine(r.app); err != nil {
		return err
	}
	if r.cut, err = newEngine(r.app); err != nil {
		return err
	}
	if r.pg != nil {
		if err := r.oracleViews(); err != nil {
			return err
		}
	}
	if r.base != r.f {
		return r.baseRows()
	}
	return nil
}

// baseRows writes the first rows of the feature that has the tables.
func (r *run) baseRows() error {
	for _, b := range r.base.blocks {
		switch b.kind {
		case "view", "expressions":
			return nil
		case "rows":
			if err := r.play(r.app, b.input); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) oracleViews() error {
	if err := r.pg.begin(r.base.tables); err != nil {
		return err
	}
	for _, b := range r.f.blocks {
		for _, w := range r.views[b] {
			if b.kind == "view" && w.query != "" {
				w.there = r.pg.view(w.name, w.query)
				w.query = "SELECT * FROM " + w.name
			}
		}
	}
	return nil
}

// watch returns the views of a block.
func watch(b *block) (out []*watched) {
	switch b.kind {
	case "view":
		w := &watched{view: &view{query: b.input}, b: b, query: b.input}
		if w.name, w.options = b.name(); w.options == "" {
			w.options = "WITH (allow_unbounded = true)"
		}
		if b.theirs != "" || b.only != "" {
			w.query = b.theirs
		}
		out = append(out, w)
	case "expressions":
		for i, line := range strings.Split(b.input, "\n") {
			sql, _, _, _ := cutExpression(line)
			w := &watched{view: &view{name: fmt.Sprintf("x%d_%d", b.line, i), query: "SELECT " + sql + " AS v FROM single"}, b: b}
			if b.only == "" {
				w.query = "SELECT " + sql + " AS v"
			}
			out = append(out, w)
		}
	}
	return out
}

func (r *run) block(b *block) {
	switch b.kind {
	case "rows":
		if err := r.play(r.app, b.input); err != nil {
			r.t.Fatalf("%s:%d: %v", r.file, b.line, err)
		}
		r.step(b)
	case "view":
		w := r.views[b][0]
		here, there := r.look(w, b.differs)
		r.expect(b, w, b.input, &b.want, &b.wantTheir, here, there)
		if w.refused == "" {
			if w.last = here; *update {
				w.last = b.want
			}
			r.shown = append(r.shown, w)
		}
	case "expressions":
		lines := strings.Split(b.input, "\n")
		for i, w := range r.views[b] {
			sql, want, theirs, why := cutExpression(lines[i])
			here, there := r.look(w, why)
			wants, theirWants := listed(want), listed(theirs)
			r.expect(b, w, sql, &wants, &theirWants, here, there)
			if lines[i] = sql + " → " + strings.Join(wants, " "); why != "" {
				lines[i] += " ≠ " + strings.Join(theirWants, " ") + " — " + why
			}
		}
		b.input = strings.Join(lines, "\n")
	}
}

func listed(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// look returns a view's lines on both sides; there is nil when PostgreSQL is not asked. It reports where they are not what they should
// be to each other.
func (r *run) look(w *watched, differs string) (here, there []string) {
	var a answer
	asked := r.pg != nil && w.query != ""
	if asked {
		if a.failed = w.there; a.failed == "" {
			a = r.pg.ask(w.query)
		}
		if there = a.lines; a.failed != "" {
			there = []string{"error: " + a.failed}
		} else if there == nil {
			there = []string{}
		}
	}
	if w.refused != "" {
		label := "not supported: "
		if a.failed != "" || w.b.only != "" {
			label = "refused: "
		}
		return []string{label + w.refused}, there
	}
	here = r.main.contents(w.view)
	if again := r.cut.contents(w.view); !slices.Equal(here, again) {
		r.bad(w, "in one batch", here, "record by record", again)
	}
	if !asked {
		return here, nil
	}
	same := sameLines(w.view, without(here, "late: "), there)
	if differs != "" {
		same = slices.Equal(here, there)
	}
	if a.failed != "" && w.there == "" {
		same = slices.ContainsFunc(here, func(l string) bool { return sameError(l, there[0]) })
	} else if d := sameTypes(w.view, a.types); d != "" && differs == "" {
		r.t.Errorf("%s:%d: %s\n%s", r.file, w.b.line, w.view.query, d)
	}
	switch {
	case !same && differs == "":
		r.bad(w, "here", here, "PostgreSQL", there)
	case same && differs != "":
		r.t.Errorf("%s:%d: PostgreSQL agrees: %s", r.file, w.b.line, w.view.query)
	}
	return here, there
}

func (r *run) bad(w *watched, a string, x []string, b string, y []string) {
	r.t.Errorf("%s:%d: %s\n%s:\n  %s\n%s:\n  %s", r.file, w.b.line, w.view.query, a, strings.Join(x, "\n  "), b, strings.Join(y, "\n  "))
}

// sameError compares what is said about an error, up to the details behind a second colon, whatever a type is called.
func sameError(a, b string) bool {
	words := strings.NewReplacer("timestamp without time zone", "timestamp", "timestamp with time zone", "timestamptz")
	a, b = words.Replace(a), words.Replace(b)
	x, y := strings.SplitN(a, ": ", 3), strings.SplitN(b, ": ", 3)
	return a == b || len(x) > 1 && len(y) > 1 && x[0] == y[0] && x[1] == y[1]
}

// truth is what a script should say: PostgreSQL's rows where it has any, and what only we can say.
func truth(w *watched, differs string, here, there []string) []string {
	failed := len(there) == 1 && strings.HasPrefix(there[0], "error: ")
	if there == nil || failed || differs != "" || w.refused != "" {
		return here
	}
	out := slices.Clone(there)
	for _, l := range here {
		if strings.HasPrefix(l, "late: ") {
			out = append(out, l)
		}
	}
	return out
}

// expect holds what there is against what the script says, or writes it there.
func (r *run) expect(b *block, w *watched, input string, want, wantTheir *[]string, here, there []string) {
	differs := b.differs
	if b.kind == "expressions" && len(*wantTheir) > 0 {
		differs = "yes"
	}
	if *update {
		*want = truth(w, differs, here, there)
		if there != nil && differs != "" {
			*wantTheir = there
		}
		return
	}
	got := here
	if w.refused != "" && r.pg == nil { // whether PostgreSQL refuses it too is not known
		got, *want = unlabelled(here), unlabelled(*want)
	}
	if !sameLines(w.view, got, *want) {
		r.t.Errorf("%s:%d: %s\ngot:\n  %s\nwant:\n  %s", r.file, b.line, input, strings.Join(got, "\n  "), strings.Join(*want, "\n  "))
	}
	if there != nil && differs != "" && !slices.Equal(there, *wantTheir) {
		r.t.Errorf("%s:%d: %s\nPostgreSQL:\n  %s\nwant:\n  %s", r.file, b.line, input, strings.Join(there, "\n  "), strings.Join(*wantTheir, "\n  "))
	}
}

func unlabelled(lines []string) []string {
	text := strings.Join(lines, "\n")
	return []string{strings.TrimPrefix(strings.TrimPrefix(text, "not supported: "), "refused: ")}
}

// step prints how a rows block changed the views above it.
func (r *run) step(b *block) {
	var got []string
	for _, w := range r.shown {
		if w.b.differs != "" {
			w.query = "" // the script has PostgreSQL's answer once
		}
		here, there := r.look(w, "")
		now := here
		if *update {
			now = truth(w, "", here, there)
		}
		for _, l := range lacking(w.last, now) {
			got = append(got, w.name+": - "+l)
		}
		for _, l := range lacking(now, w.last) {
			got = append(got, w.name+": + "+l)
		}
		w.last = now
	}
	if *update {
		b.want = got
	} else if !r.sameSteps(b.want, got) {
		r.t.Errorf("%s:%d: %s\ngot:\n  %s\nwant:\n  %s", r.file, b.line, b.input, strings.Join(got, "\n  "), strings.Join(b.want, "\n  "))
	}
}

// sameSteps compares what rows blocks print.
func (r *run) sameSteps(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		name, x, _ := strings.Cut(a[i], ": ")
		at := slices.IndexFunc(r.shown, func(w *watched) bool { return w.name == name })
		y, ok := strings.CutPrefix(b[i], name+": ")
		if !ok || at < 0 || x[:2] != y[:2] || !sameLines(r.shown[at].view, []string{x[2:]}, []string{y[2:]}) {
			return false
		}
	}
	return true
}

// lacking returns the lines of a that b does not have.
func lacking(a, b []string) (out []string) {
	count := map[string]int{}
	for _, x := range b {
		count[x]++
	}
	for _, x := range a {
		if count[x]--; count[x] < 0 {
			out = append(out, x)
		}
	}
	return out
}

func without(lines []string, prefix string) (out []string) {
	for _, l := range lines {
		if !strings.HasPrefix(l, prefix) {
			out = append(out, l)
		}
	}
	return out
}

// sameLines compares rows; numbers of type double precision may differ by one part in 10⁹.
func sameLines(v *view, a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] == b[i] {
			continue
		}
		x, y := strings.Split(a[i], " | "), strings.Split(b[i], " | ")
		if len(x) != len(y) || v.rel == nil || len(x) > len(v.rel.Columns) {
			return false
		}
		for k := range x {
			if x[k] != y[k] && (v.rel.Columns[k].Type.String() != "double precision" || !near(x[k], y[k])) {
				return false
			}
		}
	}
	return true
}

func near(a, b string) bool {
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err1 == nil && err2 == nil && math.Abs(x-y) <= 1e-9*max(math.Abs(x), math.Abs(y), 1e-3)
}
