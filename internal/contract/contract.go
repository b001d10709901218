package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Bounds. A schema beyond one is refused by [Compile], a value beyond one by [Schema.Check].
const (
	MaxSchema = 64 << 10 // bytes of a schema without its white space
	MaxDepth  = 64       // levels that a schema nests
	MaxNumber = 1000     // digits of one number
	// MaxSteps, and one more for each byte of the value, is how many sub-schemas a value is checked against, counted again for each place in it. A KiB of text that a
	// pattern reads counts as one.
	MaxSteps = 10_000
)

// draft is the one dialect.
const draft = "https://json-schema.org/draft/2020-12/schema"

// base is the address of a schema's document while it is compiled. Nothing is fetched from it.
const base = "laaster:///schema"

// Schema is one compiled schema. Safe for concurrent use: as many values are checked at one time as there are processors, others wait.
type Schema struct {
	text []byte
	at   string         // of the schema in the document: empty, the whole, or a fragment
	free chan *instance // nil members are not compiled yet
}

// instance is a compiled schema with the counter of the one check that uses it.
type instance struct {
	schema *jsonschema.Schema
	left   int
}

// Error is a schema that cannot be used.
type Error struct {
	At  string // JSON pointer into the schema; empty: the whole
	Msg string
}

// Error returns the message with its place.
func (e *Error) Error() string {
	if e.At == "" {
		return e.Msg
	}
	return "at " + e.At + ": " + e.Msg
}

// Violation is the first thing about a value that its schema does not allow.
type Violation struct {
	At   string // JSON pointer into the value; empty: the whole
	Msg  string // at most 200 bytes
	Rule string // JSON pointer into the schema

	endless bool // the schema refers to itself about one value
}

// Compile reads a schema. Its error is an [*Error].
func Compile(text []byte) (*Schema, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, &Error{Msg: "this is not JSON: " + err.Error()}
	}
	if n := compact.Len(); n > MaxSchema {
		return nil, &Error{Msg: fmt.Sprintf("the schema takes %d bytes without white space, and a schema may take %d", n, MaxSchema)}
	}
	s := &Schema{text: compact.Bytes(), free: make(chan *instance, runtime.GOMAXPROCS(0))}
	if err := sound(s.text); err != nil {
		return nil, err
	}
	return s, s.begin()
}

// compileAt compiles one schema of a document that is sound.
func compileAt(text []byte, at string) (*Schema, error) {
	s := &Schema{text: text, at: at, free: make(chan *instance, 1)}
	return s, s.begin()
}

// begin compiles the first instance.
func (s *Schema) begin() error {
	first, err := s.compile()
	if err != nil {
		return err
	}
	s.free <- first
	for len(s.free) < cap(s.free) {
		s.free <- nil
	}
	return s.endless()
}

// endless refuses a schema that refers to itself about one and the same value.
func (s *Schema) endless() error {
	for _, sample := range [...]string{"null", "true", "0", `""`, "[]", "{}"} {
		if v := s.Check([]byte(sample)); v != nil && v.endless {
			return &Error{At: v.Rule, Msg: "it refers to itself without end"}
		}
	}
	return nil
}

// Text returns the schema without white space. It must not be changed.
func (s *Schema) Text() []byte { return s.text }

// sound checks what the compiler would take and this package does not.
func sound(text []byte) error {
	if longNumber(text, 64) {
		return &Error{Msg: "a number has more than 64 digits"}
	}
	doc, err := decode(text)
	if err != nil {
		return &Error{Msg: "this is not JSON: " + err.Error()}
	}
	switch root := doc.(type) {
	case bool:
	case map[string]any:
		if s, ok := root["$schema"]; ok && s != draft && s != draft+"#" {
			return &Error{At: "/$schema", Msg: "the dialect must be " + draft}
		}
	default:
		return &Error{Msg: "a schema is a JSON object, or true or false"}
	}
	return walk(doc, "", 0)
}

// walk visits every member of a document.
func walk(v any, at string, depth int) error {
	if depth > MaxDepth {
		return &Error{At: at, Msg: fmt.Sprintf("it nests deeper than %d levels", MaxDepth)}
	}
	switch v := v.(type) {
	case json.Number:
		if _, exp, ok := strings.Cut(strings.ToLower(v.String()), "e"); ok && len(strings.TrimLeft(exp, "+-0")) > 3 {
			return &Error{At: at, Msg: "a number has an exponent of more than three digits"}
		}
	case []any:
		for i, x := range v {
			if err := walk(x, fmt.Sprint(at, "/", i), depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		if _, ok := v["$id"].(string); ok && at != "" && !data(at) {
			return &Error{At: at + "/$id", Msg: "only the whole document may have an $id"}
		}
		for k, x := range v {
			if err := walk(x, at+"/"+escape(k), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// data reports whether a place in a schema is inside of a value instead of a schema.
func data(at string) bool {
	return strings.Contains(at, "/const") || strings.Contains(at, "/enum") || strings.Contains(at, "/default") || strings.Contains(at, "/examples")
}

func escape(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

func pointer(path []string) string {
	var b strings.Builder
	for _, p := range path {
		b.WriteString("/" + escape(p))
	}
	return b.String()
}

// decode reads JSON and keeps the digits of numbers.
func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the value")
	}
	return v, nil
}

// longNumber reports whether JSON text has a number of more than limit digits.
func longNumber(text []byte, limit int) bool {
	digits, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted, digits = !quoted, 0
		case quoted:
		case c >= '0' && c <= '9':
			if digits++; digits > limit {
				return true
			}
		case c != '.' && c != '+' && c != '-' && c|0x20 != 'e':
			digits = 0
		}
	}
	return false
}

// refusing is the loader of documents that a schema names: there are none.
type refusing struct{}

// Load implements jsonschema.URLLoader.
func (refusing) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is outside of this file, and a schema is one file: put the definition under $defs", url)
}

// overBudget unwinds from a check that takes too many steps. It never leaves the package.
type overBudget struct{}

func (in *instance) step(n int) {
	if in.left -= n; in.left < 0 {
		panic(overBudget{})
	}
}

// Validate implements jsonschema.SchemaExt: it is asked once for each sub-schema at each place, and counts.
func (in *instance) Validate(*jsonschema.ValidatorContext, any) { in.step(1) }

// counted is a regular expression whose reading counts.
type counted struct {
	jsonschema.Regexp
	in *instance
}

// MatchString implements jsonschema.Regexp.
func (c *counted) MatchString(s string) bool {
	c.in.step(len(s) >> 10)
	return c.Regexp.MatchString(s)
}

func (s *Schema) compile() (*instance, error) {
	doc, err := decode(s.text)
	if err != nil {
		return nil, &Error{Msg: err.Error()}
	}
	in := &instance{}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(refusing{})
	c.UseRegexpEngine(func(text string) (jsonschema.Regexp, error) {
		re, err := compileRegexp(text)
		if err != nil {
			return nil, err
		}
		return &counted{re, in}, nil
	})
	c.AssertVocabs()
	c.RegisterVocabulary(&jsonschema.Vocabulary{URL: "laaster:///vocab/steps", Compile: func(*jsonschema.CompilerContext, map[string]any) (jsonschema.SchemaExt, error) {
		return in, nil
	}})
	if err := c.AddResource(base, doc); err != nil {
		return nil, &Error{Msg: err.Error()}
	}
	if in.schema, err = c.Compile(base + s.at); err != nil {
		return nil, compileError(err)
	}
	return in, nil
}

// compileError makes an [Error] of what the compiler refuses.
func compileError(err error) *Error {
	if bad := (*jsonschema.SchemaValidationError)(nil); errors.As(err, &bad) {
		if v := (*jsonschema.ValidationError)(nil); errors.As(bad.Err, &v) {
			leaf := worst(v)
			return &Error{At: pointer(leaf.InstanceLocation), Msg: words(leaf)}
		}
	}
	return &Error{Msg: strings.ReplaceAll(err.Error(), base, "")}
}

// Check returns what is wrong with a value, nil when the schema allows it. The value is the text of a jsonb value.
func (s *Schema) Check(value []byte) (found *Violation) {
	if longNumber(value, MaxNumber) {
		return &Violation{Msg: fmt.Sprintf("a number has more than %d digits", MaxNumber)}
	}
	v, err := decode(value)
	if err != nil {
		return &Violation{Msg: err.Error()}
	}
	in := <-s.free
	if in == nil {
		if in, err = s.compile(); err != nil {
			panic("contract: a schema that compiled does not compile: " + err.Error())
		}
	}
	in.left = MaxSteps + len(value)
	defer func() {
		s.free <- in
		if p := recover(); p != nil {
			if _, ours := p.(overBudget); !ours {
				panic(p)
			}
			found = &Violation{Msg: fmt.Sprintf("checking the value takes more than %d steps", MaxSteps+len(value))}
		}
	}()
	err = in.schema.Validate(v)
	if bad := (*jsonschema.ValidationError)(nil); errors.As(err, &bad) {
		leaf := worst(bad)
		_, rule, _ := strings.Cut(leaf.SchemaURL, "#")
		_, endless := leaf.ErrorKind.(*kind.RefCycle)
		return &Violation{At: pointer(leaf.InstanceLocation), Msg: words(leaf), Rule: rule + pointer(leaf.ErrorKind.KeywordPath()), endless: endless}
	}
	if err != nil {
		return &Violation{Msg: err.Error()}
	}
	return nil
}

// worst returns the error that lies deepest in the value: of the branches of a choice it is the one that came furthest.
func worst(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	if len(e.Causes) == 0 {
		return e
	}
	var found *jsonschema.ValidationError
	for _, c := range e.Causes {
		if w := worst(c); found == nil || len(w.InstanceLocation) > len(found.InstanceLocation) {
			found = w
		}
	}
	return found
}

// words returns the message of an error, bounded since it repeats parts of values.
func words(e *jsonschema.ValidationError) string {
	s := e.ErrorKind.LocalizedString(message.NewPrinter(language.English))
	if len(s) > 200 {
		s = s[:197]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return s
}
