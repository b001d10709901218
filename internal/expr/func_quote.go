package expr

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"laaster/app"
	"laaster/internal/change"
)

func addTextQuote(c *catalog) {
	c.add("translate(text, text, text) text", translate)
	c.add("bit_length(text) integer", func(_ *Ctx, a change.Value) (change.Value, error) { return change.Int(int64(len(a.B)) * 8), nil })
	c.add("quote_ident(text) text", func(c *Ctx, a change.Value) (change.Value, error) {
		from := len(c.scratch)
		c.scratch = appendIdent(c.scratch, a.B)
		return c.limited(from)
	})
	c.add("quote_literal(text) text", func(c *Ctx, a change.Value) (change.Value, error) {
		from := len(c.scratch)
		c.scratch = appendLiteral(c.scratch, a.B)
		return c.limited(from)
	})
	c.add("quote_literal(anyelement) text", buildFunc(buildQuote))
	c.add("quote_nullable(anyelement) text", buildFunc(buildQuote))
	c.add("quote_nullable(text) text", allArgs(func(c *Ctx, args []change.Value) (change.Value, error) {
		if args[0].Null {
			return change.Bytes([]byte("NULL")), nil
		}
		from := len(c.scratch)
		c.scratch = appendLiteral(c.scratch, args[0].B)
		return c.limited(from)
	}))
	c.add("format(text) text", buildFunc(buildFormat))
	c.add("format(text, any...) text", buildFunc(buildFormat))
	count := func(null bool) allArgs {
		return func(_ *Ctx, args []change.Value) (change.Value, error) {
			n := int64(0)
			for i := range args {
				n += boolInt(args[i].Null == null)
			}
			return change.Int(n), nil
		}
	}
	c.add("num_nulls(any...) integer", count(true))
	c.add("num_nonnulls(any...) integer", count(false))
}

// buildQuote compiles quote_literal and quote_nullable of what is no text.
func buildQuote(n *Node, _ *change.Layout, args []Func) (Func, error) {
	t, nullable := n.Args[0].Type, n.Func.Name == "quote_nullable"
	return all(func(c *Ctx, args []change.Value) (change.Value, error) {
		if args[0].Null {
			if nullable {
				return change.Bytes([]byte("NULL")), nil
			}
			return args[0], nil
		}
		text := c.text(t, args[0])
		from := len(c.scratch)
		c.scratch = appendLiteral(c.scratch, text.B)
		return c.limited(from)
	}, args), nil
}

// translate replaces each character that is in from by the one at its place in to; it goes when there is none.
func translate(c *Ctx, a, b, d change.Value) (change.Value, error) {
	if len(a.B)*len(b.B) > maxLikeWork {
		return a, tooCostly()
	}
	from := len(c.scratch)
	for rest := a.B; len(rest) > 0; {
		_, n := utf8.DecodeRune(rest)
		ch := rest[:n]
		rest = rest[n:]
		at := runeIndex(b.B, ch)
		if at < 0 {
			c.scratch = append(c.scratch, ch...)
			continue
		}
		start := runeOffset(d.B, at)
		if start < len(d.B) {
			_, n := utf8.DecodeRune(d.B[start:])
			c.scratch = append(c.scratch, d.B[start:start+n]...)
		}
	}
	return c.limited(from)
}

// runeIndex returns the place of a character, counted in characters from 0; -1 when it is not there.
func runeIndex(s, ch []byte) int64 {
	i := bytes.Index(s, ch)
	if i < 0 {
		return -1
	}
	return int64(utf8.RuneCount(s[:i]))
}

// appendLiteral writes a text as a string constant.
func appendLiteral(dst, s []byte) []byte {
	if bytes.IndexByte(s, '\\') >= 0 {
		dst = append(dst, 'E')
	}
	dst = append(dst, '\'')
	for _, ch := range s {
		if ch == '\'' || ch == '\\' {
			dst = append(dst, ch)
		}
		dst = append(dst, ch)
	}
	return append(dst, '\'')
}

// appendIdent writes a name, in quotes when it needs them.
func appendIdent(dst, s []byte) []byte {
	plain := len(s) > 0 && (s[0] >= 'a' && s[0] <= 'z' || s[0] == '_')
	for _, ch := range s {
		plain = plain && (ch >= 'a' && ch <= 'z' || ch >= '0' && ch <= '9' || ch == '_')
	}
	if plain && !slices.Contains(quotedWords(), string(s)) {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	for _, ch := range s {
		if ch == '"' {
			dst = append(dst, ch)
		}
		dst = append(dst, ch)
	}
	return append(dst, '"')
}

// quotedWords returns the keywords of PostgreSQL 15 that quote_ident puts in quotes: all that are not "unreserved".
func quotedWords() []string {
	return []string{"all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "between", "bigint", "binary", "bit",
		"boolean", "both", "case", "cast", "char", "character", "check", "coalesce", "collate", "collation", "column", "concurrently", "constraint",
		"create", "cross", "current_catalog", "current_date", "current_role", "current_schema", "current_time", "current_timestamp", "current_user",
		"dec", "decimal", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except", "exists", "extract", "false", "fetch", "float",
		"for", "foreign", "freeze", "from", "full", "grant", "greatest", "group", "grouping", "having", "ilike", "in", "initially", "inner", "inout",
		"int", "integer", "intersect", "interval", "into", "is", "isnull", "join", "lateral", "leading", "least", "left", "like", "limit", "localtime",
		"localtimestamp", "national", "natural", "nchar", "none", "normalize", "not", "notnull", "null", "nullif", "numeric", "offset", "on", "only",
		"or", "order", "out", "outer", "overlaps", "overlay", "placing", "position", "precision", "primary", "real", "references", "returning", "right",
		"row", "select", "session_user", "setof", "similar", "smallint", "some", "substring", "symmetric", "table", "tablesample", "then", "time",
		"timestamp", "to", "trailing", "treat", "trim", "true", "union", "unique", "user", "using", "values", "varchar", "variadic", "verbose", "when",
		"where", "window", "with", "xmlattributes", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces", "xmlparse", "xmlpi",
		"xmlroot", "xmlserialize", "xmltable"}
}

func buildFormat(n *Node, _ *change.Layout, args []Func) (Func, error) {
	types := typesOf(n.Args)[1:]
	return all(func(c *Ctx, args []change.Value) (change.Value, error) {
		if args[0].Null {
			return args[0], nil
		}
		w := formatter{c: c, s: args[0].B, args: args[1:], types: types}
		from := len(c.scratch)
		for len(w.s) > 0 {
			if err := w.next(); err != nil {
				return change.Value{}, err
			}
			if len(c.scratch)-from > MaxValue {
				return change.Value{}, tooLong()
			}
		}
		return c.made(from), nil
	}, args), nil
}

// formatter writes a format with %s, %I and %L.
type formatter struct {
	c     *Ctx
	s     []byte // the rest of the format
	args  []change.Value
	types []app.Type
	arg   int // arguments that were taken
}

// next writes up to the end of the next specifier.
func (w *formatter) next() error {
	i := bytes.IndexByte(w.s, '%')
	if i < 0 {
		i = len(w.s)
	}
	w.c.scratch = append(w.c.scratch, w.s[:i]...)
	if w.s = w.s[i:]; len(w.s) == 0 {
		return nil
	}
	if w.s = w.s[1:]; len(w.s) > 0 && w.s[0] == '%' {
		w.c.scratch, w.s = append(w.c.scratch, '%'), w.s[1:]
		return nil
	}
	return w.specifier()
}

func (w *formatter) end() error {
	if len(w.s) == 0 {
		return &EvalError{codeParameter, `unterminated format() type specifier`}
	}
	return nil
}

// number reads digits; ok is false when there are none.
func (w *formatter) number() (n int64, ok bool, err error) {
	for len(w.s) > 0 && isDigit(w.s[0]) {
		if n = n*10 + int64(w.s[0]-'0'); n > 1<<31-1 {
			return 0, false, &EvalError{codeRange, "number is out of range"}
		}
		w.s, ok = w.s[1:], true
	}
	return n, ok, nil
}

// specifier reads [position$][-][width]type, where width is a number, * or *position$.
func (w *formatter) specifier() error {
	position, ok, err := w.number()
	width, left := int64(0), false
	if err != nil {
		return err
	}
	if err := w.end(); err != nil {
		return err
	}
	switch {
	case ok && w.s[0] == '$':
		if position == 0 {
			return &EvalError{codeParameter, "format specifies argument 0, but arguments are numbered from 1"}
		}
		w.s = w.s[1:]
	case ok: // it was the width
		width, position = position, 0
	}
	if !ok || position > 0 {
		if width, left, err = w.width(); err != nil {
			return err
		}
	}
	if err := w.end(); err != nil {
		return err
	}
	kind := w.s[0]
	w.s = w.s[1:]
	if kind != 's' && kind != 'I' && kind != 'L' {
		return evalErrorf(codeParameter, "unrecognized format() type specifier %q", string(rune(kind)))
	}
	v, t, err := w.argument(position)
	if err != nil {
		return err
	}
	return w.write(kind, v, t, width, left)
}

func (w *formatter) width() (width int64, left bool, err error) {
	for len(w.s) > 0 && w.s[0] == '-' {
		left, w.s = true, w.s[1:]
	}
	if err := w.end(); err != nil {
		return 0, false, err
	}
	if w.s[0] != '*' {
		width, _, err = w.number()
		return width, left, err
	}
	w.s = w.s[1:]
	position, ok, err := w.number()
	if err != nil {
		return 0, false, err
	}
	if ok {
		if len(w.s) == 0 || w.s[0] != '$' {
			return 0, false, &EvalError{codeParameter, "width argument position must be ended by \"$\""}
		}
		if w.s = w.s[1:]; position == 0 {
			return 0, false, &EvalError{codeParameter, "format specifies argument 0, but arguments are numbered from 1"}
		}
	}
	v, t, err := w.argument(position)
	if err != nil || v.Null {
		return 0, left, err
	}
	if t != app.Int4 {
		if v, err = parseInt(app.Int4, AppendText(nil, t, v)); err != nil {
			return 0, false, err
		}
	}
	width = v.N
	if width < 0 {
		left, width = true, -width
	}
	return width, left, nil
}

// argument returns the argument at a position, or the next one.
func (w *formatter) argument(position int64) (change.Value, app.Type, error) {
	if position > 0 {
		w.arg = int(position) - 1
	}
	if w.arg >= len(w.args) {
		return change.Value{}, 0, &EvalError{codeParameter, "too few arguments for format()"}
	}
	w.arg++
	return w.args[w.arg-1], w.types[w.arg-1], nil
}

func (w *formatter) write(kind byte, v change.Value, t app.Type, width int64, left bool) error {
	if width > MaxValue {
		return tooLong()
	}
	c := w.c
	from := len(c.scratch)
	switch {
	case v.Null && kind == 'I':
		return evalErrorf(codeNull, "null values cannot be formatted as an SQL identifier")
	case v.Null && kind == 'L':
		c.scratch = append(c.scratch, "NULL"...)
	case v.Null:
	case kind == 's':
		c.scratch = AppendText(c.scratch, t, v)
	default:
		text := AppendText(nil, t, v)
		if kind == 'I' {
			c.scratch = appendIdent(c.scratch, text)
		} else {
			c.scratch = appendLiteral(c.scratch, text)
		}
	}
	for n := width - int64(utf8.RuneCount(c.scratch[from:])); n > 0; n-- {
		c.scratch = append(c.scratch, ' ')
		if !left {
			copy(c.scratch[from+1:], c.scratch[from:len(c.scratch)-1])
			c.scratch[from] = ' '
		}
	}
	return nil
}
