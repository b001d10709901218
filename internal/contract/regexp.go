package contract

import "regexp"

// compileRegexp makes an RE2 expression of an ECMA one. What RE2 does not have (look-around, back references) is an error of the schema.
func compileRegexp(text string) (*regexp.Regexp, error) { return regexp.Compile(text) }
