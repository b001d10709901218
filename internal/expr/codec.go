package expr

import (
	"encoding/binary"
	"errors"
	"strings"

	"laaster/app"
	"laaster/internal/change"
)

// nodeFormat is the version of what AppendNode writes.
const nodeFormat = 1

// Bounds of what ReadNode reads.
const (
	maxNodeDepth = 200
	maxNodeParts = 200_000
)

var errNode = errors.New("a logged condition cannot be read")

// AppendNode appends a condition as the log keeps it: numbers of columns, values as text, functions by their names. Not every expression can be written:
// [Storable] tells. One that a rule was bound to can.
func AppendNode(b []byte, n *Node) []byte { return appendNode(append(b, nodeFormat), n) }

// The layout of a node: kind, type, then by kind
//
//	KColumn            number
//	KConst             0 for NULL, else 1 and the text
//	KCall              name, number of arguments, arguments
//	all others         number of arguments, arguments
//
// Numbers are uvarints, texts have their length in front.
func appendNode(b []byte, n *Node) []byte {
	b = append(b, byte(n.Kind), byte(n.Type))
	switch n.Kind {
	case KColumn:
		return binary.AppendUvarint(b, uint64(n.Col))
	case KConst:
		if n.Value.Null {
			return append(b, 0)
		}
		return appendString(append(b, 1), string(AppendText(nil, n.Type, n.Value)))
	case KCall:
		b = appendString(b, n.Func.Name)
	}
	b = binary.AppendUvarint(b, uint64(len(n.Args)))
	for _, a := range n.Args {
		b = appendNode(b, a)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// ReadNode reads what AppendNode wrote: all of b. The node compiles over a layout that has the columns it reads.
func ReadNode(b []byte) (*Node, error) {
	if len(b) == 0 || b[0] != nodeFormat {
		return nil, errNode
	}
	r := &nodeReader{b: b[1:]}
	n := r.node(0)
	if r.bad || len(r.b) > 0 {
		return nil, errNode
	}
	return n, nil
}

type nodeReader struct {
	b     []byte
	parts int
	bad   bool
}

func (r *nodeReader) fail() *Node {
	r.bad, r.b = true, nil
	return NullLit(-1)
}

func (r *nodeReader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *nodeReader) number() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > 1<<30 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *nodeReader) string() string {
	n := r.number()
	if n > len(r.b) {
		r.fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *nodeReader) node(depth int) *Node {
	kind, t := Kind(r.byte()), app.Type(r.byte())
	if r.parts++; r.bad || t == app.Unknown || depth > maxNodeDepth || r.parts > maxNodeParts || TypeNamed(t.String()) != t {
		return r.fail()
	}
	switch kind {
	case KColumn:
		return Column(r.number(), t, -1)
	case KConst:
		return r.constant(t)
	}
	name := ""
	if kind == KCall {
		name = r.string()
	}
	count := r.number()
	if count > len(r.b) { // each takes two bytes at least
		return r.fail()
	}
	args := make([]*Node, 0, count)
	for range count {
		args = append(args, r.node(depth+1))
	}
	if r.bad {
		return r.fail()
	}
	n, err := rebuild(kind, t, name, args)
	if err != nil || n.Type != t {
		return r.fail()
	}
	return n
}

func (r *nodeReader) constant(t app.Type) *Node {
	if r.byte() == 0 {
		return Const(t, change.Null(), -1)
	}
	n, err := literal(StringLit(r.string(), -1), t)
	if err != nil {
		return r.fail()
	}
	return n
}

// rebuild makes a node of its parts, checked.
func rebuild(kind Kind, t app.Type, name string, args []*Node) (*Node, error) {
	n := &Node{Kind: kind, Type: t, Args: args, Pos: -1}
	ok := false
	switch kind {
	case KSubject, KRole:
		ok = t == app.Text && len(args) == 0
	case KCall:
		return rebuildCall(name, args)
	case KCast:
		ok = len(args) == 1 && args[0].Type != app.Unknown && castAllowed(args[0].Type, t) != castNone
	case KAnd, KOr:
		ok = t == app.Bool && len(args) > 1 && allOf(args, app.Bool)
	case KNot:
		ok = t == app.Bool && len(args) == 1 && allOf(args, app.Bool)
	case KIsNull:
		ok = t == app.Bool && len(args) == 1
	case KDistinct:
		ok = t == app.Bool && len(args) == 2 && allOf(args, args[0].Type)
	case KIn:
		ok = t == app.Bool && len(args) > 1 && allOf(args, args[0].Type)
	case KCoalesce:
		ok = len(args) > 0 && allOf(args, t)
	case KSure:
		ok = len(args) == 2 && allOf(args, t)
	case KCase:
		ok = len(args)%2 == 1 && len(args) > 2 && args[len(args)-1].Type == t
		for i := 0; i+1 < len(args); i += 2 {
			ok = ok && args[i].Type == app.Bool && args[i+1].Type == t
		}
	}
	if !ok {
		return nil, errNode
	}
	return n, nil
}

func allOf(args []*Node, t app.Type) bool {
	for _, a := range args {
		if a.Type != t {
			return false
		}
	}
	return true
}

// rebuildCall resolves a function anew: the types of its arguments are those of its parameters, so it is the same one.
func rebuildCall(name string, args []*Node) (*Node, error) {
	if len(args) == 0 || len(args) > 1 && name == "" {
		return nil, errNode
	}
	op, all := strings.CutSuffix(name, " ALL")
	any := false
	if !all {
		op, any = strings.CutSuffix(name, " ANY")
	}
	switch {
	case (all || any) && len(args) == 2:
		return AnyOf(args[0], op, args[1], all, -1)
	case name == "greatest" || name == "least":
		return extreme(name, args, -1)
	case name == "array":
		return ArrayLit(args, -1)
	case name == "element" && len(args) == 2:
		return Subscript(args[0], args[1], -1)
	case len(builtins().operators[name]) > 0 && len(args) <= 2:
		return Operator(name, args, -1)
	case isSet(name):
		return nil, errNode
	}
	return Call(name, args, -1)
}

// Storable reports whether AppendNode can write the expression: what is read back is the same. Memberships are left out of it.
func Storable(n *Node) bool {
	ok := true
	var plain func(n *Node) *Node
	plain = func(n *Node) *Node {
		if n.Kind == KMember {
			ok = ok && Storable(n.Args[0]) && (n.Set.Cond == nil || Storable(n.Set.Cond))
			return Column(0, app.Bool, -1)
		}
		copied := *n
		copied.Args = make([]*Node, len(n.Args))
		for i, a := range n.Args {
			copied.Args[i] = plain(a)
		}
		return &copied
	}
	p := plain(n)
	back, err := ReadNode(AppendNode(nil, p))
	return ok && err == nil && back.String() == p.String()
}
