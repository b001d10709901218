package wire

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the files that are generated from this package")

const (
	typescriptFile = "../../sdk/js/src/wire.ts"
	protocolFile   = "../../docs/protocol.md"
	errorsFile     = "../../docs/errors.md"
)

// TestGenerated compares the SDK's types, the tables of the protocol page and the page of errors with what this package
// says. With -update it writes them.
func TestGenerated(t *testing.T) {
	defs := readDefinitions(t)
	compareFile(t, typescriptFile, typescript(defs))
	compareFile(t, errorsFile, errorsPage())
	page, err := os.ReadFile(protocolFile)
	if err != nil {
		t.Fatal(err)
	}
	page = replaceBlock(t, page, "client frames", frameTable(defs.client))
	page = replaceBlock(t, page, "server frames", frameTable(defs.server))
	page = replaceBlock(t, page, "parts", frameTable(defs.parts))
	page = replaceBlock(t, page, "codes", codeTable())
	compareFile(t, protocolFile, page)
}

func compareFile(t *testing.T, path string, want []byte) {
	t.Helper()
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, want) {
		return
	}
	if !*update {
		t.Errorf("%s differs from internal/wire: run go test ./internal/wire -run Generated -update", path)
		return
	}
	if err := os.WriteFile(path, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

func replaceBlock(t *testing.T, page []byte, name, content string) []byte {
	t.Helper()
	open, end := "<!-- generated: "+name+" -->\n", "<!-- end -->"
	before, rest, ok := strings.Cut(string(page), open)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no block %q", protocolFile, name)
	}
	return []byte(before + open + content + end + after)
}

// definition is one struct of this package with its comments.
type definition struct {
	name   string
	doc    string
	fields []field
}

type field struct {
	name     string // on the wire; empty: embedded
	optional bool
	ts       string
	doc      string
	embeds   string
}

type definitions struct{ client, server, parts []definition }

// readDefinitions reads the structs from the source, since comments exist nowhere else.
func readDefinitions(t *testing.T) definitions {
	t.Helper()
	structs := map[string]definition{}
	var order []string
	client := map[string]bool{}
	for _, file := range []string{"frames.go", "write.go", "errors.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "clientFrame" {
				client[fn.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name] = true
			}
			gen, ok := d.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			spec := gen.Specs[0].(*ast.TypeSpec)
			if st, ok := spec.Type.(*ast.StructType); ok && spec.Name.Name != "CodeInfo" && spec.Name.Name != "Cursor" {
				structs[spec.Name.Name] = readStruct(t, spec.Name.Name, gen.Doc.Text(), st)
				order = append(order, spec.Name.Name)
			}
		}
	}
	var out definitions
	for _, name := range order {
		switch {
		case client[name]:
			out.client = append(out.client, structs[name])
		case strings.HasSuffix(name, "Frame"):
			out.server = append(out.server, structs[name])
		default:
			out.parts = append(out.parts, structs[name])
		}
	}
	return out
}

func readStruct(t *testing.T, name, doc string, st *ast.StructType) definition {
	t.Helper()
	def := definition{name: name, doc: oneLine(doc)}
	for _, f := range st.Fields.List {
		if len(f.Names) == 0 {
			def.fields = append(def.fields, field{embeds: f.Type.(*ast.Ident).Name})
			continue
		}
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
		wireName, opts, _ := strings.Cut(tag.Get("json"), ",")
		ts := tag.Get("ts")
		if ts == "" {
			ts = tsType(t, f.Type)
		}
		if name == "Problem" && wireName != "code" { // the SDK makes problems of its own
			opts = "omitempty"
		}
		def.fields = append(def.fields, field{wireName, strings.HasPrefix(opts, "omit"), ts, oneLine(f.Comment.Text()), ""})
	}
	return def
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func tsType(t *testing.T, e ast.Expr) string {
	t.Helper()
	switch e := e.(type) {
	case *ast.StarExpr:
		return tsType(t, e.X)
	case *ast.ArrayType:
		return tsType(t, e.Elt) + "[]"
	case *ast.MapType:
		return "Record<string, " + tsType(t, e.Value) + ">"
	case *ast.Ident:
		switch e.Name {
		case "string":
			return "string"
		case "int", "uint64", "float64":
			return "number"
		case "bool":
			return "boolean"
		case "any", "RawJSON":
			return "unknown"
		case "Cursor":
			return "string | null"
		case "Code":
			return "string"
		case "Retry":
			return "'no' | 'after'"
		}
		return tsName(e.Name)
	}
	t.Fatalf("no TypeScript for %T", e)
	return ""
}

// tsName is the name of a struct in the SDK.
func tsName(name string) string {
	switch name {
	case "Subscription":
		return "SubscribeRequest"
	case "Client":
		return "ClientName"
	}
	if strings.HasSuffix(name, "Frame") {
		return name
	}
	return "Wire" + strings.TrimPrefix(name, "Write")
}

func frameType(name string) string { return strings.ToLower(strings.TrimSuffix(name, "Frame")) }

func typescript(defs definitions) []byte {
	var b bytes.Buffer
	b.WriteString("// Generated from internal/wire: go test ./internal/wire -run Generated -update. Do not edit.\n\n")
	b.WriteString("/** One row: column names to JSON values. */\nexport type WireRow = Record<string, unknown>\n\n")
	b.WriteString("/** The codes of this server's errors, see docs/errors.md. A newer server may send others. */\nexport type ServerCode =\n")
	for _, c := range Codes() {
		fmt.Fprintf(&b, "  | '%s'\n", c.Code)
	}
	b.WriteString("\n")
	for _, d := range defs.parts {
		writeInterface(&b, d)
	}
	for _, d := range append(append([]definition{}, defs.client...), defs.server...) {
		writeInterface(&b, d)
	}
	writeUnion(&b, "Frames from the client.", "ClientFrame", defs.client)
	writeUnion(&b, "Frames from the server.", "ServerFrame", defs.server)
	b.WriteString("/** What a write asks for. */\nexport type WriteRequest = Omit<WriteFrame, 'type' | 'id'>\n")
	return b.Bytes()
}

func writeInterface(b *bytes.Buffer, d definition) {
	fmt.Fprintf(b, "/** %s */\nexport interface %s", strings.TrimPrefix(tsDoc(d), "/"), tsName(d.name))
	for _, f := range d.fields {
		if f.embeds != "" {
			fmt.Fprintf(b, " extends %s", tsName(f.embeds))
		}
	}
	b.WriteString(" {\n")
	if strings.HasSuffix(d.name, "Frame") {
		fmt.Fprintf(b, "  type: '%s'\n", frameType(d.name))
	}
	for _, f := range d.fields {
		if f.embeds != "" {
			continue
		}
		if f.doc != "" {
			fmt.Fprintf(b, "  /** %s */\n", f.doc)
		}
		mark := ""
		if f.optional {
			mark = "?"
		}
		fmt.Fprintf(b, "  %s%s: %s\n", f.name, mark, f.ts)
	}
	b.WriteString("}\n\n")
}

// tsDoc is the comment with the name that the SDK uses.
func tsDoc(d definition) string { return strings.Replace(d.doc, d.name, tsName(d.name), 1) }

func writeUnion(b *bytes.Buffer, doc, name string, defs []definition) {
	fmt.Fprintf(b, "/** %s */\nexport type %s =\n", doc, name)
	for _, d := range defs {
		fmt.Fprintf(b, "  | %s\n", d.name)
	}
	b.WriteString("\n")
}

// frameTable is the documentation of frames: a heading, a sentence and a table each.
func frameTable(defs []definition) string {
	var b strings.Builder
	for _, d := range defs {
		title := "`" + frameType(d.name) + "`"
		doc := strings.TrimSpace(strings.TrimPrefix(d.doc, d.name))
		if !strings.HasSuffix(d.name, "Frame") {
			title = "`" + strings.ToLower(d.name) + "` (part)"
		}
		fmt.Fprintf(&b, "#### %s\n%s%s\n\n", title, strings.ToUpper(doc[:1]), doc[1:])
		if len(d.fields) > 0 {
			b.WriteString("| member | type | meaning |\n|---|---|---|\n")
		}
		for _, f := range d.fields {
			if f.embeds != "" {
				fmt.Fprintf(&b, "| *all of* | `%s` | |\n", strings.ToLower(f.embeds))
				continue
			}
			mark := ""
			if f.optional {
				mark = "?"
			}
			fmt.Fprintf(&b, "| `%s%s` | %s | %s |\n", f.name, mark, docType(f.ts), f.doc)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// docType names a TypeScript type in words that the page uses.
func docType(ts string) string {
	r := strings.NewReplacer("Record<string, ", "object of ", ">", "", "SubscribeRequest", "subscription", "ClientName", "client",
		"WireRow", "row", "WireProblem", "problem", "WireChanges", "changes", "WireLimits", "limits", "WireRejected", "rejected",
		"unknown[][]", "array of arrays", "unknown", "any JSON", " | ", " or ", "|", "or")
	return r.Replace(ts)
}

func codeTable() string {
	var b strings.Builder
	b.WriteString("| code | HTTP | retry | meaning |\n|---|---|---|---|\n")
	for _, c := range Codes() {
		fmt.Fprintf(&b, "| [`%s`](errors.md#%s) | %d | %s | %s |\n", c.Code, c.Code, c.Status, c.Retry, c.Title)
	}
	return b.String()
}

func errorsPage() []byte {
	var b bytes.Buffer
	b.WriteString("# Errors\n\n<!-- Generated from internal/wire: go test ./internal/wire -run Generated -update. Do not edit. -->\n\n")
	b.WriteString("Every error is one object on every transport: the body of an `application/problem+json` answer (RFC 9457), the member\n" +
		"`error` of a frame, the `error` of a rejected row. Decide by `code`; `detail`, `field` and `hint` are for people. `retry`\n" +
		"says whether the same request may succeed later: `no`, or `after` waiting `retry_after_ms` (over HTTP also\n" +
		"`Retry-After`). `request` is the id in the server's log.\n\n")
	for _, c := range Codes() {
		fmt.Fprintf(&b, "## %s\n%s%s. HTTP %d, retry: %s.\n\n%s\n\n", c.Code, strings.ToUpper(c.Title[:1]), c.Title[1:], c.Status, c.Retry, c.Remedy)
	}
	return b.Bytes()
}
