// Package devpage has the script that pages get from `laaster dev`. It depends on nothing.
package devpage

import (
	"bytes"
	_ "embed"
)

//go:embed dev.js
var script []byte

// Path is where the script is served.
const Path = "/v1/dev.js"

// Script returns the script. Read-only.
func Script() []byte { return script }

// Inject returns the page with the script at the end of its body, or at its end when it has none.
func Inject(page []byte) []byte {
	tag := []byte(`<script type="module" src="` + Path + `"></script>`)
	at := bytes.LastIndex(bytes.ToLower(page), []byte("</body>"))
	if at < 0 {
		at = len(page)
	}
	return bytes.Join([][]byte{page[:at], tag, page[at:]}, nil)
}
