package expr_test

import (
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/expr"
)

// A pattern that would hold up the rows behind it is refused instead.
func TestMatchingIsBounded(t *testing.T) {
	check := func(op, text, pattern, want string) {
		t.Helper()
		n, err := expr.Operator(op, []*expr.Node{constOf(t, app.Text, text), constOf(t, app.Text, pattern)}, -1)
		if got := ours(n, err); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", op, got, want)
		}
	}
	long := strings.Repeat("a", 600_000)
	check("~~", long, "%"+strings.Repeat("_a", 400)+"b%", "error: 54000")
	check("~~", long, "%a_b%", "boolean: f")
	check("~~", long, "%"+strings.Repeat("a", 4000)+"b%", "boolean: f") // no wildcards inside: a search
	check("~", long, "(a|b|c|d)*e(a|b|c|d)*e(a|b|c|d)*f[a-z]+(a|b|c|d)*e(a|b|c|d)*e(a|b|c|d)*f(a|b|c|d)*e(a|b|c|d)*e", "error: 54000")
	check("~", "a", "(((a{30}){30}))+", "boolean: f")
	check("~", "a", "("+strings.Repeat("a{900}", 20)+")", "error: 54000")
	check("~", "a", "(a{900}){900}", "error: 2201B")
	check("~", "a", "(", "error: 2201B")
	check("~", "a", `(a)\1`, "error: 2201B")
	check("~", "a\nb", "a.b", "boolean: t")
	check("~", "a\nb", "a$", "boolean: f")
}
