package app

import (
	"strings"
	"testing"
	"time"
)

func TestAuthSettings(t *testing.T) {
	s, err := ParseSettings("laaster.yaml", []byte(`auth:
  max_lifetime: 1h
  issuers:
    - issuer: https://id.example.org/
      audience: clinic
      jwks: https://id.example.org/jwks
      algorithms: [ES256]
      subject_prefix: "corp:"
      role_map:
        - {claim: groups, value: staff, role: nurse}
    - {issuer: local, audience: clinic, jwks: jwks.json, default_role: guest, subject_prefix: "guest:"}
    - {issuer: "http://localhost:9000/realms/x", audience: clinic, discovery: true, subject_prefix: "x:"}
`))
	if err != nil {
		t.Fatal(err)
	}
	a := &s.Auth
	if !a.Open() || a.Anonymous || len(a.Issuers) != 3 || time.Duration(a.MaxLifetime) != time.Hour || time.Duration(a.Leeway) != 2*time.Second ||
		a.Issuers[0].RoleMap[0] != (RoleMapping{"groups", "staff", "nurse"}) || a.Issuers[1].DefaultRole != "guest" || !a.Issuers[2].Discovery {
		t.Fatalf("%+v", a)
	}
	if s, err = ParseSettings("laaster.yaml", []byte("auth: anonymous\n")); err != nil || !s.Auth.Anonymous || !s.Auth.Open() || time.Duration(s.Auth.MaxLifetime) != 15*time.Minute {
		t.Fatalf("%+v %v", s.Auth, err)
	}
	for _, text := range []string{"auth:\n", "auth: \"\"\n", "auth: {}\n", "drain: 1s\n"} {
		if s, err = ParseSettings("laaster.yaml", []byte(text)); err != nil || s.Auth.Open() {
			t.Errorf("%q: %+v %v", text, s.Auth, err)
		}
	}
}

func TestWrongAuthSettings(t *testing.T) {
	issuer := func(more string) string {
		return "auth:\n  issuers:\n    - {issuer: i, audience: a, " + more + "}\n"
	}
	for text, want := range map[string]string{
		"auth: everybody\n": `1:7: "everybody" is not known`,
		"auth: [a]\n":       "laaster.yaml:1:",
		"auth: {issuers: [], max_lifetime: 25h}\n":                                            "auth.max_lifetime: 25h0m0s is out of range",
		"auth: {leeway: 31s}\n":                                                               "auth.leeway: 31s is out of range",
		"auth: {issuer: x}\n":                                                                 `unknown key "issuer"`,
		"auth: {issuers: [{audience: a, jwks: k}]}\n":                                         "auth.issuers[0]: names no issuer",
		"auth: {issuers: [{issuer: i, jwks: k}]}\n":                                           "auth.issuers[0]: names no audience",
		issuer("jwks: k, discovery: true"):                                                    "has 2 places of keys",
		issuer("private: true"):                                                               "has 0 places of keys",
		issuer("discovery: true"):                                                             "auth.issuers[0].discovery: the issuer is no https URL",
		issuer("jwks: 'http://example.org/k'"):                                                "is not https",
		issuer("jwks: 'https://u:hunter2@example.org/k'"):                                     "has a user",
		issuer("jwks: 'ftp://example.org/k'"):                                                 "is not https",
		issuer("jwks: k, algorithms: [HS256]"):                                                `auth.issuers[0].algorithms[0]: "HS256" is not spoken`,
		issuer("jwks: k, role_map: [{claim: c}]"):                                             "auth.issuers[0].role_map[0]: names no claim or no role",
		issuer("jwks: k, colour: red"):                                                        `unknown key "colour"`,
		issuer("jwks: k") + "    - {issuer: i, audience: b, jwks: l}\n":                       "is there twice",
		issuer("jwks: k") + "    - {issuer: j, audience: b, jwks: l}\n":                       `auth.issuers[0].subject_prefix: "" of "i" begins "" of "j"`,
		issuer("jwks: k, subject_prefix: 'a:'") + "    - {issuer: j, audience: b, jwks: l}\n": `auth.issuers[1].subject_prefix: "" of "j" begins "a:" of "i"`,
		issuer("jwks: k, subject_prefix: 'a:'") + "    - {issuer: j, audience: b, jwks: l, subject_prefix: 'a:b:'}\n": `auth.issuers[0].subject_prefix: "a:" of "i" begins "a:b:" of "j"`,
		issuer("jwks: k, subject_prefix: 'a:'") + "    - {issuer: j, audience: b, jwks: l, subject_prefix: 'a:'}\n":   `auth.issuers[0].subject_prefix: "a:" of "i" begins "a:" of "j"`,
	} {
		_, err := ParseSettings("laaster.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is told: %v", err)
		}
	}
}
