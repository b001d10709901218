package view

import (
	"bytes"
	"encoding/binary"

	"laaster/internal/change"
)

// item is one row in a tree: the length of the key in four bytes, the key, the row. One allocation and three words per
// row, since these are what a large view's memory consists of.
type item []byte

const itemHeader = 4

func newItem(key []byte, row change.Row) item {
	it := make(item, 0, itemHeader+len(key)+len(row))
	return append(appendItemKey(it, key), row...)
}

func appendItemKey(dst item, key []byte) item {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(key)))
	return append(dst, key...)
}

func (it item) key() []byte {
	end := itemHeader + int(binary.LittleEndian.Uint32(it))
	return it[itemHeader:end:end]
}

func (it item) row() change.Row {
	start := itemHeader + int(binary.LittleEndian.Uint32(it))
	return change.Row(it[start:len(it):len(it)])
}

func itemLess(a, b item) bool { return bytes.Compare(a.key(), b.key()) < 0 }
