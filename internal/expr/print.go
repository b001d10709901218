package expr

import (
	"fmt"
	"strconv"
	"strings"

	"laaster/app"
	"laaster/internal/change"
)

// String returns canonical text: two expressions with the same text compute the same. Columns are $1, $2, … with their types;
// constants are quoted and typed; every operator is in parentheses. It is for hashes, EXPLAIN and people, not for parsing.
func (n *Node) String() string {
	var b strings.Builder
	n.print(&b)
	return b.String()
}

func (n *Node) print(b *strings.Builder) {
	switch n.Kind {
	case KColumn:
		fmt.Fprintf(b, "$%d:%s", n.Col+1, n.Type)
	case KConst:
		printConst(b, n.Type, n.Value)
	case KCall:
		n.printCall(b)
	case KCast:
		n.printCast(b)
	case KAnd:
		n.printList(b, "(", " AND ", ")", n.Args)
	case KOr:
		n.printList(b, "(", " OR ", ")", n.Args)
	case KNot:
		n.printList(b, "(NOT ", "", ")", n.Args)
	case KIsNull:
		n.printList(b, "(", "", " IS NULL)", n.Args)
	case KDistinct:
		n.printList(b, "(", " IS DISTINCT FROM ", ")", n.Args)
	case KCase:
		n.printCase(b)
	case KCoalesce:
		n.printList(b, "COALESCE(", ", ", ")", n.Args)
	case KIn:
		n.printList(b, "(", "", " IN ", n.Args[:1])
		n.printList(b, "(", ", ", "))", n.Args[1:])
	case KMember:
		n.printList(b, "(", "", " IN (", n.Args)
		b.WriteString(n.Set.String() + "))")
	case KSure:
		n.printList(b, "SURE(", ", ", ")", n.Args)
	case KNow:
		b.WriteString("now()")
	case KSubject:
		b.WriteString("auth_subject()")
	case KRole:
		b.WriteString("auth_role()")
	default:
		fmt.Fprintf(b, "node(%d)", n.Kind)
	}
}

func (n *Node) printList(b *strings.Builder, before, between, after string, list []*Node) {
	b.WriteString(before)
	for i, a := range list {
		if i > 0 {
			b.WriteString(between)
		}
		a.print(b)
	}
	b.WriteString(after)
}

func (n *Node) printCall(b *strings.Builder) {
	switch f := n.Func; {
	case f.operator && f.prefix:
		n.printList(b, "("+f.Name+" ", "", ")", n.Args)
	case f.operator:
		n.printList(b, "(", " "+f.Name+" ", ")", n.Args)
	case f.Name == "array":
		n.printList(b, "ARRAY[", ", ", "]::"+n.Type.String(), n.Args)
	case f.Name == "element", f.Name == "slice":
		n.printList(b, "(", "", ")", n.Args[:1])
		n.printList(b, "[", ":", "]", n.Args[1:])
	default:
		n.printList(b, f.Name+"(", ", ", ")", n.Args)
	}
}

func (n *Node) printCast(b *strings.Builder) {
	n.Args[0].print(b)
	b.WriteString("::" + n.Type.String())
}

func (n *Node) printCase(b *strings.Builder) {
	b.WriteString("CASE")
	for i := 0; i+1 < len(n.Args); i += 2 {
		b.WriteString(" WHEN ")
		n.Args[i].print(b)
		b.WriteString(" THEN ")
		n.Args[i+1].print(b)
	}
	b.WriteString(" ELSE ")
	n.Args[len(n.Args)-1].print(b)
	b.WriteString(" END")
}

func printConst(b *strings.Builder, t app.Type, v change.Value) {
	if v.Null {
		b.WriteString("NULL::" + t.String())
		return
	}
	text := AppendText(nil, t, v)
	switch t {
	case app.Int4:
		b.Write(text)
	case app.Bool:
		b.WriteString(strconv.FormatBool(v.N != 0))
	default:
		b.WriteString("'" + strings.ReplaceAll(string(text), "'", "''") + "'::" + t.String())
	}
}
