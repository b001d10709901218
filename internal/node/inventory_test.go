package node

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"laaster/internal/node/devpage"
)

// ruleOf are the words that may begin the rule of a route or frame in docs/security.md.
var ruleOf = []string{"grant", "token", "open", "operator", "development", "none"}

var inventoryLine = regexp.MustCompile("(?m)^\\| (route|frame) `([^`]+)` \\| ([a-z]+)\\b([^|]*) \\|$")

// inventory reads the routes and frames of docs/security.md with the first word of their rules.
func inventory(t *testing.T, kind string) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]string{}
	for _, m := range inventoryLine.FindAllStringSubmatch(string(page), -1) {
		if m[1] != kind {
			continue
		}
		if _, twice := rules[m[2]]; twice || !slices.Contains(ruleOf, m[3]) {
			t.Errorf("docs/security.md: %s %s: listed twice, or its rule is none of %v", kind, m[2], ruleOf)
		}
		rules[m[2]] = m[3]
	}
	return rules
}

// sources parses the files of a folder that are no tests.
func sources(t *testing.T, dir string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// routes finds every pattern that this package gives to a mux.
func routes(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, f := range sources(t, ".") {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 2 {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Handle" && sel.Sel.Name != "HandleFunc" {
				return true
			}
			patterns, ok := patternsOf(call.Args[0])
			if !ok {
				t.Errorf("%s: a pattern that cannot be read", f.Name)
			}
			out = append(out, patterns...)
			return true
		})
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// patternsOf reads a literal, a method in front of one, or the page of development.
func patternsOf(e ast.Expr) ([]string, bool) {
	text := func(e ast.Expr) (string, bool) {
		l, ok := e.(*ast.BasicLit)
		if !ok {
			return "", false
		}
		s, err := strconv.Unquote(l.Value)
		return s, err == nil
	}
	if s, ok := text(e); ok {
		return []string{s}, true
	}
	sum, ok := e.(*ast.BinaryExpr)
	if !ok {
		return nil, false
	}
	left, isText := text(sum.X)
	if sel, ok := sum.Y.(*ast.SelectorExpr); ok && isText && sel.Sel.Name == "Path" {
		return []string{left + devpage.Path}, true
	}
	right, ok := text(sum.Y)
	if name, isName := sum.X.(*ast.Ident); !ok || !isName || name.Name != "method" {
		return nil, false
	}
	return []string{"POST" + right, "PATCH" + right, "DELETE" + right}, true
}

// TestEveryRouteHasARule: each route that is served is listed in docs/security.md with who may use it, and nothing else is listed.
func TestEveryRouteHasARule(t *testing.T) {
	rules, served := inventory(t, "route"), routes(t)
	for _, r := range served {
		if rules[r] == "" {
			t.Errorf("%s has no rule in docs/security.md", r)
		}
		delete(rules, r)
	}
	for r := range rules {
		t.Errorf("docs/security.md lists %s, which is not served", r)
	}
	if len(served) < 20 {
		t.Errorf("only %d routes found", len(served))
	}
}

// TestEveryFrameHasARule: the same of the frames that clients send.
func TestEveryFrameHasARule(t *testing.T) {
	rules, found := inventory(t, "frame"), 0
	for _, f := range sources(t, filepath.Join("..", "wire")) {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Name.Name != "clientFrame" {
				continue
			}
			star, ok := fn.Recv.List[0].Type.(*ast.StarExpr)
			if !ok {
				t.Fatal("a frame that is not read by a pointer")
			}
			name := strings.ToLower(strings.TrimSuffix(star.X.(*ast.Ident).Name, "Frame"))
			if rules[name] == "" {
				t.Errorf("the frame %s has no rule in docs/security.md", name)
			}
			delete(rules, name)
			found++
		}
	}
	for name := range rules {
		t.Errorf("docs/security.md lists the frame %s, which is not read", name)
	}
	if found < 9 {
		t.Errorf("only %d frames found", found)
	}
}
