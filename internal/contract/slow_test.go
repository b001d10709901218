package contract

import (
	"fmt"
	"strings"
	"testing"
)

// TestNarrowerGivesUp: schemas whose branches would have to be tried in every combination are refused after a bounded amount of work.
func TestNarrowerGivesUp(t *testing.T) {
	nest := func(word string, levels int, leaf string) string {
		s := leaf
		for i := range levels {
			s = fmt.Sprintf(`{"%s": [%s, {"type": "object", "properties": {"x%d": %s}, "required": ["x%d"]}]}`, word, s, i, leaf, i)
		}
		return s
	}
	refs := func(word, leaf string) string {
		var defs []string
		for i := range 30 {
			defs = append(defs, fmt.Sprintf(`"d%d": {"%s": [{"properties": {"a": {"$ref": "#/$defs/d%d"}}}, {"properties": {"b": {"$ref": "#/$defs/d%d"}}}]}`, i, word, i+1, i+1))
		}
		return `{"$ref": "#/$defs/d0", "$defs": {` + strings.Join(defs, ", ") + `, "d30": ` + leaf + `}}`
	}
	for _, c := range []struct{ old, now string }{
		{nest("anyOf", 12, `{"type": "string"}`), nest("oneOf", 12, `{"type": "number"}`)},
		{refs("anyOf", `{"type": "string"}`), refs("anyOf", `{"type": "number"}`)},
		{refs("allOf", `{"type": "string"}`), refs("oneOf", `{"type": "number"}`)},
		{refs("oneOf", `{"type": "string"}`), refs("allOf", `{"minLength": 1}`)},
	} {
		if _, err := Compile([]byte(c.old)); err != nil {
			t.Fatal(err)
		}
		if found := Narrower([]byte(c.old), []byte(c.now)); len(found) == 0 {
			t.Errorf("%.100s may become %.100s", c.old, c.now)
		}
	}
}
