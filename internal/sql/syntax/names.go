package syntax

import "strings"

func upper(s string) string { return strings.ToUpper(s) }

// nameOf reads one word as a name if ok allows its class.
func (p *parser) nameOf(what string, ok func(*token) bool) Name {
	t := p.tok()
	if !ok(t) {
		p.unexpected(what)
	}
	p.next()
	return Name{Span{t.pos, t.end}, t.text}
}

// isColID: a name of a column, table, or alias.
func isColID(t *token) bool {
	return t.kind == tIdent || t.kind == tKeyword && !t.word.joined && (t.word.class == Unreserved || t.word.class == ColName)
}

// isTypeFunc: a name of a function or type.
func isTypeFunc(t *token) bool {
	return t.kind == tIdent || t.kind == tKeyword && !t.word.joined && (t.word.class == Unreserved || t.word.class == TypeFunc)
}

// isNonReserved: a name of a role.
func isNonReserved(t *token) bool {
	return t.kind == tIdent || t.kind == tKeyword && !t.word.joined && t.word.class != Reserved
}

// isLabel: anything that is a word.
func isLabel(t *token) bool { return t.kind == tIdent || t.kind == tKeyword && !t.word.joined }

// isBareLabel: a label without AS. PostgreSQL would take reserved words and the words of operators too, where no operator
// can stand; reading those as labels hides mistakes.
func isBareLabel(t *token) bool {
	switch t.text {
	case "at", "between", "escape", "ilike", "is", "like", "operator", "overlaps", "similar":
		return t.kind == tIdent
	}
	return t.kind == tIdent || t.kind == tKeyword && !t.word.joined && !t.word.asLabel && t.word.class != Reserved
}

func (p *parser) colID(what string) Name { return p.nameOf(what, isColID) }
func (p *parser) label(what string) Name { return p.nameOf(what, isLabel) }

// qualified reads a name of a table or view, schema and all.
func (p *parser) qualified(what string) QName {
	q := QName{p.colID(what)}
	for p.punct(".") {
		p.next()
		q = append(q, p.label("a name"))
	}
	if len(q) > 3 {
		p.fail(q.At(), "too many dots in this name", "a name has at most the parts database.schema.name")
	}
	return q
}

// anyName reads a name of an object of any kind.
func (p *parser) anyName(what string) QName {
	q := QName{p.colID(what)}
	for p.punct(".") {
		p.next()
		q = append(q, p.label("a name"))
	}
	return q
}

// nameList reads (a, b, c) with the opening parenthesis.
func (p *parser) nameList(what string) []Name {
	p.expectPunct("(")
	var list []Name
	for {
		list = append(list, p.colID(what))
		if !p.acceptPunct(",") {
			break
		}
	}
	p.closing()
	return list
}

// role reads a role.
func (p *parser) role() RoleRef {
	t := p.tok()
	if t.is("current_user") || t.is("current_role") || t.is("session_user") {
		p.next()
		return RoleRef{Span: Span{t.pos, t.end}, Name: t.text, Current: true}
	}
	n := p.nameOf("a role", isNonReserved)
	if n.Text == "none" {
		p.fail(n.Span, `the role name "none" is reserved`, "")
	}
	return RoleRef{Span: n.Span, Name: n.Text, Public: n.Text == "public"}
}

// suggest looks for a misspelt keyword at the current token or just before it, where it was taken for an alias.
func (p *parser) suggest() string {
	for _, i := range []int{p.at, p.at - 1} {
		if i < 0 {
			continue
		}
		t := &p.toks[i]
		if t.kind != tIdent || t.quoted || len(t.text) < 3 {
			continue
		}
		if w := Nearest(t.text, strings.Fields(suggestible)); w != "" {
			return "did you mean " + upper(w) + "?"
		}
	}
	return ""
}

// suggestible are the keywords that suggest knows.
const suggestible = `create table materialized view select from where group having order limit offset grant revoke insert
	update delete primary default check constraint unique references between distinct partition join using interval
	exists filter fetch first values union intersect except nulls case when then else null true false timestamp
	integer bigint boolean numeric precision double with not`

// Nearest returns the word that is most like s, or "" when none is near: at most one edit in three characters, a swap of
// neighbours counting as one.
func Nearest(s string, words []string) string {
	best, least := "", (len(s)+1)/3+1
	for _, w := range words {
		if d := distance(s, w, least); d < least && w != s {
			best, least = w, d
		}
	}
	return best
}

// distance is the number of edits between a and b, or limit if that is at least limit.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	var two, one []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		two, one, row = one, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(one[j]+1, row[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
	}
	return min(row[len(b)], limit)
}
