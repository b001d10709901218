package change

import (
	"encoding/binary"
	"errors"
)

// Rules is what the rules of access ask of the rows of one write where only the engine can tell: conditions as expr.AppendNode writes them, bound to the caller,
// with the members of their sets. An empty one lets every row pass.
type Rules struct {
	Using  []byte // of a row that is there, for an update, a delete, or a merge that finds it
	Check  []byte // of what an update or a merge makes of it
	Insert []byte // of a row that a merge inserts
}

// Empty reports whether the rules ask nothing.
func (r *Rules) Empty() bool { return len(r.Using)+len(r.Check)+len(r.Insert) == 0 }

// Append appends the encoding of r to dst: nothing when it asks nothing.
func (r *Rules) Append(dst []byte) []byte {
	if r.Empty() {
		return dst
	}
	for _, c := range [...][]byte{r.Using, r.Check, r.Insert} {
		dst = binary.AppendUvarint(dst, uint64(len(c)))
		dst = append(dst, c...)
	}
	return dst
}

var errRules = errors.New("rules that cannot be read")

// ReadRules reads what Append wrote. The result aliases b.
func ReadRules(b []byte) (r Rules, err error) {
	if len(b) == 0 {
		return r, nil
	}
	for _, to := range [...]*[]byte{&r.Using, &r.Check, &r.Insert} {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return Rules{}, errRules
		}
		*to, b = b[w:w+int(n):w+int(n)], b[w+int(n):]
	}
	if len(b) > 0 {
		return Rules{}, errRules
	}
	return r, nil
}
