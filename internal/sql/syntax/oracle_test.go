package syntax

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	pgquery "github.com/wasilibs/go-pgquery"
)

// postgres parses with PostgreSQL's own parser and returns the statements without places and zero fields.
func postgres(src string) ([]any, error) {
	text, err := pgquery.ParseToJSON(src)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Stmts []struct {
			Stmt any `json:"stmt"`
		} `json:"stmts"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return nil, err
	}
	var list []any
	for _, s := range doc.Stmts {
		list = append(list, withoutPlaces(s.Stmt))
	}
	return list, nil
}

func withoutPlaces(v any) any {
	switch v := v.(type) {
	case obj:
		for k, x := range v {
			if k == "location" {
				delete(v, k)
				continue
			}
			v[k] = withoutPlaces(x)
		}
	case arr:
		for i := range v {
			v[i] = withoutPlaces(v[i])
		}
	}
	return v
}

// compare parses src both ways. It returns what is wrong: we accept what PostgreSQL rejects, or the trees differ.
func compare(src string) (accepted bool, problem string) {
	ours, errs := Parse(src)
	if len(errs) > 0 {
		return false, ""
	}
	theirs, err := postgres(src)
	if err != nil {
		return true, "we accept what PostgreSQL rejects: " + err.Error()
	}
	if len(ours) != len(theirs) {
		return true, fmt.Sprintf("we read %d statements, PostgreSQL %d", len(ours), len(theirs))
	}
	for i := range ours {
		if mine := pgStatement(ours[i]); !reflect.DeepEqual(mine, theirs[i]) {
			return true, "the trees differ at " + firstDifference(mine, theirs[i])
		}
	}
	return true, ""
}

// firstDifference names the place where two trees part.
func firstDifference(a, b any) string {
	x, isObj := a.(obj)
	y, bothObj := b.(obj)
	if isObj && bothObj {
		keys := maps.Clone(x)
		maps.Copy(keys, y)
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			if !reflect.DeepEqual(x[k], y[k]) {
				return k + "." + firstDifference(x[k], y[k])
			}
		}
	}
	v, isArr := a.(arr)
	w, bothArr := b.(arr)
	if isArr && bothArr && len(v) == len(w) {
		for i := range v {
			if !reflect.DeepEqual(v[i], w[i]) {
				return fmt.Sprint(i) + "." + firstDifference(v[i], w[i])
			}
		}
	}
	ours, _ := json.Marshal(a)
	theirs, _ := json.Marshal(b)
	return fmt.Sprintf("\n ours   %s\n theirs %s", ours, theirs)
}

// corpus reads testdata/corpus: statements that end with a semicolon at the end of a line, in files named valid* (we must
// accept), unsupported* (PostgreSQL accepts, we must refuse) and invalid* (both must refuse).
func corpus(t testing.TB) (valid, unsupported, invalid []string) {
	files, _ := filepath.Glob("testdata/corpus/*.sql")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, s := range strings.Split(string(b), ";\n") {
			if strings.TrimSpace(s) != "" {
				list = append(list, s)
			}
		}
		switch name := filepath.Base(f); {
		case strings.HasPrefix(name, "valid"):
			valid = append(valid, list...)
		case strings.HasPrefix(name, "unsupported"):
			unsupported = append(unsupported, list...)
		default:
			invalid = append(invalid, list...)
		}
	}
	if len(valid) < 100 || len(invalid) < 50 {
		t.Fatalf("the corpus has %d valid and %d invalid statements", len(valid), len(invalid))
	}
	return valid, unsupported, invalid
}

// TestCorpus holds the parser against PostgreSQL's over every statement of the corpus.
func TestCorpus(t *testing.T) {
	valid, unsupported, invalid := corpus(t)
	for _, s := range valid {
		if ok, problem := compare(s); !ok {
			_, errs := Parse(s)
			t.Errorf("%s\n we refuse it: %s", s, errs[0].Msg)
		} else if problem != "" {
			t.Errorf("%s\n %s", s, problem)
		}
	}
	for _, s := range unsupported {
		if _, errs := Parse(s); len(errs) == 0 {
			t.Errorf("%s\n we accept it", s)
		}
		if _, err := postgres(s); err != nil {
			t.Errorf("%s\n PostgreSQL refuses it: %s", s, err)
		}
	}
	for _, s := range invalid {
		if _, errs := Parse(s); len(errs) == 0 {
			t.Errorf("%s\n we accept it", s)
		}
		if _, err := postgres(s); err == nil {
			t.Errorf("%s\n PostgreSQL accepts it", s)
		}
	}
}

// TestMutations holds the parser against PostgreSQL's over random changes of the corpus: tokens dropped, doubled, swapped
// and exchanged between statements. What we accept, PostgreSQL accepts with the same tree.
func TestMutations(t *testing.T) {
	valid, _, _ := corpus(t)
	rounds := 1500
	if testing.Short() {
		rounds = 300
	}
	if s := os.Getenv("LAASTER_MUTATIONS"); s != "" {
		fmt.Sscan(s, &rounds)
	}
	seed := uint64(1)
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	accepted := 0
	for range rounds {
		s := mutate(r, valid)
		ok, problem := compare(s)
		if ok {
			accepted++
		}
		if problem != "" {
			t.Errorf("seed %d:\n%s\n %s", seed, s, problem)
		}
	}
	t.Logf("%d of %d mutations were accepted", accepted, rounds)
}

func mutate(r *rand.Rand, corpus []string) string {
	s := corpus[r.IntN(len(corpus))]
	toks, _ := lex(s)
	words := make([]string, 0, len(toks))
	for _, t := range toks[:len(toks)-1] {
		words = append(words, s[t.pos:t.end])
	}
	other := corpus[r.IntN(len(corpus))]
	from, _ := lex(other)
	pick := func() string {
		t := from[r.IntN(len(from))]
		return other[t.pos:t.end]
	}
	for range 1 + r.IntN(2) {
		i := r.IntN(len(words))
		switch r.IntN(5) {
		case 0:
			words = append(words[:i], words[i+1:]...)
		case 1:
			words = append(words[:i+1], words[i:]...)
		case 2:
			j := r.IntN(len(words))
			words[i], words[j] = words[j], words[i]
		case 3:
			words[i] = pick()
		case 4:
			words = append(words[:i], append([]string{pick()}, words[i:]...)...)
		}
		if len(words) == 0 {
			return ";"
		}
	}
	return strings.Join(words, " ")
}
