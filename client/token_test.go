package client

import (
	"encoding/base64"
	"testing"
)

func TestHolder(t *testing.T) {
	as := func(claims string) string { return "x." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".y" }
	one := holder(as(`{"sub":"a","exp":1,"jti":"x","roles":["r"]}`))
	for claims, same := range map[string]bool{
		`{"sub":"a","exp":2,"iat":1,"nbf":1,"jti":"y","roles":["r"]}`: true,
		`{"roles":["r"],"sub":"a"}`:                                   true,
		`{"sub":"b","exp":1,"jti":"x","roles":["r"]}`:                 false,
		`{"sub":"a","exp":1,"jti":"x","roles":["s"]}`:                 false,
	} {
		if got := holder(as(claims)); (got == one) != same {
			t.Errorf("%s: %s", claims, got)
		}
	}
	for _, text := range []string{"", "opaque", "a.b.c", "x..y", as("[]"), as("{")} {
		if got := holder(text); got != "" {
			t.Errorf("%q: %q", text, got)
		}
	}
}
