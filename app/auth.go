package app

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Auth says whose tokens are believed. In the file it is the word anonymous, or a mapping. Without issuers every caller is anon.
type Auth struct {
	Anonymous   bool     `yaml:"-"`            // `auth: anonymous`: serve other addresses than loopback without tokens
	Issuers     []Issuer `yaml:"issuers"`      // up to 16
	MaxLifetime Duration `yaml:"max_lifetime"` // from iat to exp; longer: refused. Default 15m, 1m to 24h
	Leeway      Duration `yaml:"leeway"`       // by how much clocks may differ. Default 2s, 0s to 30s
}

// Issuer is who signs tokens, and what holds for those that he signs. Exactly one of JWKS, Discovery and Secret says where his keys are.
type Issuer struct {
	Issuer    string `yaml:"issuer"`    // the claim iss, to the letter
	Audience  string `yaml:"audience"`  // which the claim aud must contain
	JWKS      string `yaml:"jwks"`      // his public keys: an https URL, or a file relative to the app folder
	Discovery bool   `yaml:"discovery"` // ask {issuer}/.well-known/openid-configuration where they are
	Secret    string `yaml:"secret"`    // of HS256, for `laaster dev` alone: a file relative to the app folder, or env:NAME
	// Private lets the names in his URLs stand for private addresses; loopback must be named itself.
	Private       bool          `yaml:"private"`
	Algorithms    []string      `yaml:"algorithms"`     // of EdDSA, ES256, RS256. Default: all of them
	Types         []string      `yaml:"types"`          // of the header typ. Default: JWT, at+jwt
	RolesClaim    string        `yaml:"roles_claim"`    // path of the claim that names roles: a text, or a list. Default roles
	RoleMap       []RoleMapping `yaml:"role_map"`       // roles that other claims stand for, behind those of roles_claim
	DefaultRole   string        `yaml:"default_role"`   // of a token that names none. Default: none
	SubjectPrefix string        `yaml:"subject_prefix"` // put before sub. Of several issuers none begins another's, so that their subjects differ
}

// RoleMapping gives a role to tokens whose claim is, or as a list has, a value.
type RoleMapping struct {
	Claim string `yaml:"claim"` // its path
	Value string `yaml:"value"` // as text; "": any but false, null, 0 and what is empty
	Role  string `yaml:"role"`
}

// Open reports whether callers can be told apart, or the settings say in words that they need not be.
func (a *Auth) Open() bool { return a.Anonymous || len(a.Issuers) > 0 }

// defaultAuth is what holds without a word in the file.
func defaultAuth() Auth {
	return Auth{MaxLifetime: Duration(15 * time.Minute), Leeway: Duration(2 * time.Second)}
}

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (a *Auth) UnmarshalYAML(n ast.Node) error {
	switch n.Type() {
	case ast.NullType:
		return nil
	case ast.StringType:
		if a.Anonymous = n.GetToken().Value == "anonymous"; !a.Anonymous && n.GetToken().Value != "" {
			return wrongValue(n, fmt.Sprintf("%q is not known: say anonymous, or name issuers", n.GetToken().Value))
		}
		return nil
	}
	type plain Auth
	return yaml.NodeToValue(n, (*plain)(a), yaml.Strict())
}

// mostIssuers bounds auth.issuers.
const mostIssuers = 16

func (a *Auth) bounds() []bound {
	out := []bound{
		duration("auth.max_lifetime", a.MaxLifetime, time.Minute, 24*time.Hour),
		duration("auth.leeway", a.Leeway, 0, 30*time.Second),
	}
	if len(a.Issuers) > mostIssuers {
		out = append(out, bound{"auth.issuers", "has " + strconv.Itoa(len(a.Issuers)) + " issuers", "up to " + strconv.Itoa(mostIssuers)})
	}
	seen := map[string]bool{}
	for i := range a.Issuers {
		out = append(out, a.Issuers[i].bounds(fmt.Sprintf("auth.issuers[%d]", i), seen)...)
	}
	return append(out, a.prefixes()...)
}

// prefixes finds issuers whose subjects can be the same: where one's prefix begins another's, he can name the other's subjects.
func (a *Auth) prefixes() (out []bound) {
	for i := range a.Issuers {
		for j := range a.Issuers {
			one, other := &a.Issuers[i], &a.Issuers[j]
			if i == j || !strings.HasPrefix(other.SubjectPrefix, one.SubjectPrefix) || j < i && one.SubjectPrefix == other.SubjectPrefix {
				continue
			}
			out = append(out, bound{fmt.Sprintf("auth.issuers[%d].subject_prefix", i), fmt.Sprintf("%q of %s begins %q of %s: a subject of one can be one of the other",
				one.SubjectPrefix, strconv.Quote(one.Issuer), other.SubjectPrefix, strconv.Quote(other.Issuer)),
				`with several issuers each needs a prefix of his own that begins no other, such as "corp:" and "guests:"`})
			break // one of them is enough to know
		}
	}
	return out
}

func (s *Issuer) bounds(at string, seen map[string]bool) (out []bound) {
	wrong := func(name, problem, hint string) { out = append(out, bound{at + name, problem, hint}) }
	if s.Issuer == "" {
		wrong("", "names no issuer", "issuer: the claim iss of his tokens")
	} else if seen[s.Issuer] {
		wrong(".issuer", strconv.Quote(s.Issuer)+" is there twice", "one entry for each issuer")
	}
	seen[s.Issuer] = true
	if s.Audience == "" {
		wrong("", "names no audience", "audience: what the claim aud of tokens for this app contains")
	}
	ways := 0
	for _, given := range []bool{s.JWKS != "", s.Discovery, s.Secret != ""} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		wrong("", "has "+strconv.Itoa(ways)+" places of keys", "exactly one of jwks, discovery: true, and for laaster dev secret")
	}
	if problem := keysURL(s.JWKS); problem != "" {
		wrong(".jwks", problem, "https://…, or a file; http:// only for this machine")
	}
	if s.Discovery {
		if problem := keysURL(s.Issuer); problem != "" || !strings.Contains(s.Issuer, "://") {
			wrong(".discovery", "the issuer is no https URL", "discovery asks at {issuer}/.well-known/openid-configuration")
		}
	}
	for j, alg := range s.Algorithms {
		if !slices.Contains([]string{"EdDSA", "ES256", "RS256"}, alg) {
			wrong(fmt.Sprintf(".algorithms[%d]", j), strconv.Quote(alg)+" is not spoken", "EdDSA, ES256, RS256")
		}
	}
	for j, m := range s.RoleMap {
		if m.Claim == "" || m.Role == "" {
			wrong(fmt.Sprintf(".role_map[%d]", j), "names no claim or no role", "{claim: groups, value: staff, role: nurse}")
		}
	}
	return out
}

// keysURL says what is wrong with where keys are, when that is a URL.
func keysURL(where string) string {
	if !strings.Contains(where, "://") {
		return ""
	}
	u, err := url.Parse(where)
	switch {
	case err != nil || u.Host == "":
		return strconv.Quote(where) + " is not a URL"
	case u.User != nil || u.Fragment != "":
		return strconv.Quote(u.Redacted()) + " has a user, a password or a fragment"
	case u.Scheme == "https" || u.Scheme == "http" && LoopbackHost(u.Hostname()):
		return ""
	}
	return strconv.Quote(where) + " is not https"
}
