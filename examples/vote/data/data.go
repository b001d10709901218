// Package data carries the votes that the example plays: the song contests of 1957 to 2022. README.md beside this file says
// where they come from and what was left out; LICENSE.txt is their licence.
package data

import _ "embed" // for the directive below

//go:embed votes.csv.gz
var votes []byte

// Votes returns the gzipped table, with a header line. The caller must not change it.
func Votes() []byte { return votes }
