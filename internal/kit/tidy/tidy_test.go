package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "laaster"

type file struct {
	path string // relative to the root, slashes
	room string
	test bool
	ast  *ast.File
}

// tree parses every Go file of the project once.
func tree(t *testing.T) (*token.FileSet, []file) {
	t.Helper()
	root := filepath.Join("..", "..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "node_modules" || n == "testdata" || (strings.HasPrefix(n, ".") && n != ".." && n != ".") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != root { // a module of its own compares other libraries by their own means
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		files = append(files, file{rel, filepath.ToSlash(filepath.Dir(rel)), strings.HasSuffix(rel, "_test.go") || strings.HasPrefix(rel, "internal/kit/testkit/"), f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d Go files found: is the root right?", len(files))
	}
	return set, files
}

func excepted(rule, path string) bool {
	return slices.ContainsFunc(Exceptions(), func(e Exception) bool { return e.Rule == rule && e.Path == path })
}

func TestImportTable(t *testing.T) {
	set, files := tree(t)
	table := Imports()
	for _, f := range files {
		allowed, known := table[f.room]
		if !known {
			t.Errorf("%s: room %s is not in the import table (internal/kit/tidy/tidy.go)", f.path, f.room)
			continue
		}
		if f.test || slices.Contains(allowed, "*") {
			continue // tests may join rooms
		}
		for _, imp := range f.ast.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			room, ours := strings.CutPrefix(path, module+"/")
			if !ours || mayImport(f.room, room, allowed) {
				continue
			}
			t.Errorf("%s: %s may not import %s: rooms meet at a contract and node joins them", set.Position(imp.Pos()), f.room, room)
		}
	}
}

func mayImport(from, to string, allowed []string) bool {
	if slices.Contains(allowed, to) {
		return true
	}
	switch {
	case from == "app", strings.HasPrefix(from, "internal/kit/"):
		return false
	case from == "internal/change":
		return to == "app"
	case from == "internal/observe":
		return to == "app" || strings.HasPrefix(to, "internal/kit/")
	}
	return slices.Contains(Common(), to)
}

func TestPackageComments(t *testing.T) {
	_, files := tree(t)
	has := map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		has[f.room] = has[f.room] || f.ast.Doc != nil && len(f.ast.Doc.Text()) > 60
	}
	for room, ok := range has {
		if !ok {
			t.Errorf("%s: no package comment that states what it owns, promises and needs", room)
		}
	}
}

func TestExportedComments(t *testing.T) {
	set, files := tree(t)
	for _, f := range files {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
					t.Errorf("%s: %s has no comment", set.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					ts, ok := s.(*ast.TypeSpec)
					if ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: %s has no comment", set.Position(ts.Pos()), ts.Name.Name)
					}
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

func TestNoInitAndNoChangingVariables(t *testing.T) {
	set, files := tree(t)
	vars := map[string]map[string]bool{} // room → package variables
	for _, f := range files {
		for _, d := range f.ast.Decls {
			if fd, ok := d.(*ast.FuncDecl); ok && fd.Recv == nil && fd.Name.Name == "init" && !excepted("init", f.path) {
				t.Errorf("%s: init: construct in node, in plain sight", set.Position(fd.Pos()))
			}
			gd, ok := d.(*ast.GenDecl)
			if !ok || gd.Tok != token.VAR || f.test {
				continue
			}
			for _, s := range gd.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					if vars[f.room] == nil {
						vars[f.room] = map[string]bool{}
					}
					vars[f.room][n.Name] = true
				}
			}
		}
	}
	for _, f := range files {
		if f.test || excepted("var", f.path) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			for _, id := range assigned(n) {
				// An identifier whose declaration the parser resolved inside the function shadows the package's.
				if vars[f.room][id.Name] && (id.Obj == nil || isPackageVar(f.ast, id)) {
					t.Errorf("%s: package variable %s changes: give the state an owner", set.Position(id.Pos()), id.Name)
				}
			}
			return true
		})
	}
}

func isPackageVar(f *ast.File, id *ast.Ident) bool {
	return f.Scope != nil && f.Scope.Lookup(id.Name) == id.Obj
}

// assigned returns the identifiers whose variable n changes: assignment, x++, &x, x[i] = …, x.f = ….
func assigned(n ast.Node) []*ast.Ident {
	var out []*ast.Ident
	add := func(e ast.Expr) {
		for {
			switch x := e.(type) {
			case *ast.Ident:
				out = append(out, x)
				return
			case *ast.IndexExpr:
				e = x.X
			case *ast.SelectorExpr:
				e = x.X
			case *ast.StarExpr:
				e = x.X
			default:
				return
			}
		}
	}
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			for _, l := range n.Lhs {
				add(l)
			}
		}
	case *ast.IncDecStmt:
		add(n.X)
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			if id, ok := n.X.(*ast.Ident); ok {
				out = append(out, id)
			}
		}
	}
	return out
}

func TestGoroutinesClocksAndSleeps(t *testing.T) {
	set, files := tree(t)
	for _, f := range files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				if !f.test && !excepted("go", f.path) {
					t.Errorf("%s: goroutine outside kit/run: use Group.Go, so that somebody stops it", set.Position(n.Pos()))
				}
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if !ok || x.Name != "time" || x.Obj != nil {
					return true
				}
				if n.Sel.Name == "Sleep" && !excepted("sleep", f.path) {
					t.Errorf("%s: sleep: wait for an event, or move the clock", set.Position(n.Pos()))
				}
				if !f.test && clockReads(n.Sel.Name) && !excepted("clock", f.path) {
					t.Errorf("%s: time.%s outside kit/run: take a run.Clock", set.Position(n.Pos()), n.Sel.Name)
				}
			}
			return true
		})
	}
}

func clockReads(name string) bool {
	return slices.Contains([]string{"Now", "Since", "Until", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc"}, name)
}

func TestExceptionsAreUsed(t *testing.T) {
	for _, e := range Exceptions() {
		if e.Why == "" {
			t.Errorf("%s %s: an exception needs a reason", e.Rule, e.Path)
		}
		if _, err := os.Stat(filepath.Join("..", "..", "..", e.Path)); err != nil {
			t.Errorf("%s: excepted file is gone", e.Path)
		}
	}
}

func TestNoTraces(t *testing.T) {
	// Names of machines and of registries do not belong into the tree.
	bad := []string{"registry." + "npmjs", "proxy." + "golang.org", "deb." + "debian.org", "/work/" + "main", "/work/" + "shared"}
	root := filepath.Join("..", "..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "node_modules" || n == ".git" || n == "bin" || n == ".laaster" {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > 4<<20 {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, b := range bad {
			if strings.Contains(string(data), b) {
				t.Errorf("%s contains %q", path, b)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
