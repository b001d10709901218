package contract

import (
	"encoding/json"
	"strings"
)

// kinds is a set of JSON's types. Whole numbers and others are apart, since "integer" is one.
type kinds uint8

const (
	kindNull kinds = 1 << iota
	kindBool
	kindWhole
	kindFraction
	kindString
	kindArray
	kindObject
	kindNumber = kindWhole | kindFraction
	kindAny    = kindNull | kindBool | kindNumber | kindString | kindArray | kindObject
)

func kindNamed(name any) kinds {
	switch name {
	case "null":
		return kindNull
	case "boolean":
		return kindBool
	case "integer":
		return kindWhole
	case "number":
		return kindNumber
	case "string":
		return kindString
	case "array":
		return kindArray
	case "object":
		return kindObject
	}
	return 0
}

// String lists the names as a type keyword would.
func (k kinds) String() string {
	if k == kindAny {
		return "any"
	}
	var names []string
	for _, one := range []struct {
		k    kinds
		name string
	}{{kindNull, "null"}, {kindBool, "boolean"}, {kindString, "string"}, {kindArray, "array"}, {kindObject, "object"}} {
		if k&one.k != 0 {
			names = append(names, one.name)
		}
	}
	switch {
	case k&kindFraction != 0:
		names = append(names, "number")
	case k&kindWhole != 0:
		names = append(names, "integer")
	}
	return strings.Join(names, ", ")
}

// typeSet reads the value of a type keyword.
func typeSet(v any) kinds {
	list, ok := v.([]any)
	if !ok {
		return kindNamed(v)
	}
	var k kinds
	for _, name := range list {
		k |= kindNamed(name)
	}
	return k
}

// kindOf returns the type of a value.
func kindOf(v any) kinds {
	switch v := v.(type) {
	case nil:
		return kindNull
	case bool:
		return kindBool
	case string:
		return kindString
	case []any:
		return kindArray
	case map[string]any:
		return kindObject
	case json.Number:
		if n, ok := number(v); ok && n.IsInt() {
			return kindWhole
		}
		return kindFraction
	}
	return 0
}

// typesOf returns the types that a value may have that follows all of the schemas.
func typesOf(list []map[string]any) kinds {
	k := kindAny
	for _, s := range list {
		if t, ok := s["type"]; ok {
			k &= typeSet(t)
		}
	}
	if values, ok := finite(list); ok {
		var these kinds
		for _, v := range values {
			these |= kindOf(v)
		}
		k &= these
	}
	return k
}

// applies returns the types that a keyword says something about; none for what only describes.
func applies(word string) kinds {
	switch word {
	case "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "type", "enum", "const":
		return kindAny
	case "required", "properties", "patternProperties", "additionalProperties", "propertyNames", "minProperties", "maxProperties", "dependentRequired",
		"dependentSchemas", "unevaluatedProperties":
		return kindObject
	case "items", "prefixItems", "contains", "minContains", "maxContains", "minItems", "maxItems", "uniqueItems", "unevaluatedItems":
		return kindArray
	case "minLength", "maxLength", "pattern", "format":
		return kindString
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf":
		return kindNumber
	}
	return 0
}

// equal compares values as JSON Schema does: numbers by what they are worth.
func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		x, ok := number(a)
		y, also := number(b)
		return ok && also && x.Cmp(y) == 0
	case []any:
		list, ok := b.([]any)
		if !ok || len(a) != len(list) {
			return false
		}
		for i := range a {
			if !equal(a[i], list[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		m, ok := b.(map[string]any)
		if !ok || len(a) != len(m) {
			return false
		}
		for k, v := range a {
			if w, ok := m[k]; !ok || !equal(v, w) {
				return false
			}
		}
		return true
	}
	return a == b
}
