package sql

import (
	"math/big"
	"strings"
)

// decimal makes a number as SQL writes it (underscores, 0x, 0o, 0b) a plain decimal.
func decimal(s string) string {
	s = strings.ReplaceAll(s, "_", "")
	sign, digits := "", s
	if strings.HasPrefix(s, "-") {
		sign, digits = "-", s[1:]
	}
	if len(digits) > 2 && digits[0] == '0' && strings.ContainsRune("xXoObB", rune(digits[1])) {
		return sign + radix(digits)
	}
	return s
}

// radix returns the decimal form of 0x, 0o and 0b integers of any size.
func radix(s string) string {
	n, ok := new(big.Int).SetString(s, 0)
	if !ok {
		return s
	}
	return n.String()
}
