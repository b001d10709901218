package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"laaster/internal/wire"
)

// The functions of this file walk JSON that json.Valid has accepted; they check nothing themselves.

var errJSON = errors.New("a frame that is not JSON")

// checkJSON reports whether text is one JSON object in UTF-8.
func checkJSON(text []byte) error {
	i := skipSpace(text, 0)
	if i == len(text) || text[i] != '{' || !utf8.Valid(text) || !json.Valid(text) {
		return errJSON
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the index behind the value that begins at i.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch b[i] {
			case '"':
				i = skipString(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	return i
}

func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// members calls f with each member of an object, names as they are written between the quotes unless they have escapes.
func members(object []byte, f func(name, value []byte)) {
	i := skipSpace(object, 0)
	if i == len(object) || object[i] != '{' {
		return
	}
	for i = skipSpace(object, i+1); object[i] != '}'; {
		end := skipString(object, i)
		name := unquoted(object[i:end])
		i = skipSpace(object, skipSpace(object, end)+1) // behind the colon
		end = skipValue(object, i)
		f(name, object[i:end:end])
		if i = skipSpace(object, end); object[i] == ',' {
			i = skipSpace(object, i+1)
		}
	}
}

// elements calls f with each element of an array.
func elements(array []byte, f func(value []byte)) {
	i := skipSpace(array, 0)
	if i == len(array) || array[i] != '[' {
		return
	}
	for i = skipSpace(array, i+1); array[i] != ']'; {
		end := skipValue(array, i)
		f(array[i:end:end])
		if i = skipSpace(array, end); array[i] == ',' {
			i = skipSpace(array, i+1)
		}
	}
}

// unquoted returns what a JSON string says. Without escapes it is a part of quoted.
func unquoted(quoted []byte) []byte {
	if len(quoted) < 2 || quoted[0] != '"' {
		return nil
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // it is valid
	return []byte(s)
}

// text returns what a JSON string says, or "" for anything else.
func text(value []byte) string { return string(unquoted(value)) }

// appendCanonical appends value in the one form in which keys are compared: strings with as few escapes as they can have, no spaces.
func appendCanonical(dst, value []byte) []byte {
	if len(value) == 0 {
		return append(dst, "null"...)
	}
	if value[0] == '"' {
		if bytes.IndexByte(value, '\\') < 0 {
			return append(dst, value...)
		}
		return wire.AppendString(dst, text(value))
	}
	if value[0] != '{' && value[0] != '[' {
		return append(dst, value...)
	}
	var b bytes.Buffer
	_ = json.Compact(&b, value) // it is valid
	return append(dst, b.Bytes()...)
}

// rowKey appends the key of a row: the values of the key columns. For few columns a search in place is cheaper than a map.
func rowKey(dst []byte, row []byte, key []string) []byte {
	var few [8][]byte
	values := few[:]
	if len(key) > len(few) {
		values = make([][]byte, len(key))
	}
	members(row, func(name, value []byte) {
		for i, k := range key {
			if string(name) == k {
				values[i] = value
			}
		}
	})
	for i := range key {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendCanonical(dst, values[i])
	}
	return dst
}

// delKey appends the key of a row that left, which the server sends as an array of values.
func delKey(dst []byte, values []byte) []byte {
	first := true
	elements(values, func(v []byte) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendCanonical(dst, v)
	})
	return dst
}
