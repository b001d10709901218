package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"laaster/internal/wire"
)

// Bounds of a token.
const (
	maxToken   = 8 << 10 // bytes
	maxSubject = 255     // bytes of sub, jti, sid
	maxRoles   = 64
	maxRole    = 255
)

// refused is the answer to a token that is not believed. Nothing of the token is repeated in it: what cannot be verified is not to be
// found in logs.
func refused(detail, hint string) *wire.Problem {
	return wire.NewProblem(wire.Unauthenticated, detail).WithField("token", hint)
}

// unverified is a token that was taken apart. Only its issuer, kid and algorithm are looked at before the signature is, and only to find
// the key.
type unverified struct {
	signed    string // header and claims, as they were sent
	signature []byte
	alg, kid  string
	named     bool // it has a kid
	typ       string
	issuer    string
	claims    []byte
	members   object
}

// takeApart reads a compact JWS.
func takeApart(text string) (*unverified, *wire.Problem) {
	if len(text) > maxToken {
		return nil, refused("the token has more than "+strconv.Itoa(maxToken)+" bytes", "ask the issuer for fewer claims")
	}
	if strings.Count(text, ".") != 2 { // before anything is split: what has five parts is encrypted, others are noise
		return nil, refused("the token does not have three parts", "send a signed JWT in its compact form")
	}
	end := strings.LastIndexByte(text, '.')
	first := strings.IndexByte(text, '.')
	u := &unverified{signed: text[:end]}
	header, err1 := decode64(text[:first])
	claims, err2 := decode64(text[first+1 : end])
	signature, err3 := decode64(text[end+1:])
	if err1 != nil || err2 != nil || err3 != nil || len(signature) == 0 {
		return nil, refused("the token's parts are not base64url", "send a signed JWT in its compact form")
	}
	u.signature, u.claims = signature, claims
	if p := u.header(header); p != nil {
		return nil, p
	}
	var err error
	if u.members, err = readObject(claims); err != nil {
		return nil, refused("the token's claims are not a JSON object in which each name is there once", "")
	}
	issuer, ok := u.members.text("iss")
	if !ok {
		return nil, refused("the token has no issuer", "the claim iss names who signed it")
	}
	u.issuer = issuer
	return u, nil
}

// header reads the protected header. What would have the token bring its own key, or be read in another way, is refused, not passed over.
func (u *unverified) header(text []byte) *wire.Problem {
	h, err := readObject(text)
	if err != nil {
		return refused("the token's header is not a JSON object in which each name is there once", "")
	}
	for _, name := range []string{"crit", "zip", "enc", "jku", "jwk", "x5u", "x5c", "b64", "epk", "cty"} {
		if _, there := h[name]; there {
			return refused("the token's header has "+name+", which is not taken", "sign without it")
		}
	}
	alg, _ := h.text("alg")
	switch alg {
	case algEdDSA, algES256, algRS256, algHS256:
	default:
		return refused("the token is signed by an algorithm that is not taken", "EdDSA, ES256 and RS256 are")
	}
	typ, ok := h.text("typ")
	if !ok {
		return refused("the token's header has no typ", "JWT or at+jwt")
	}
	kid, named := h["kid"]
	if named {
		if u.kid, ok = h.text("kid"); !ok || len(u.kid) > maxKeyID {
			return refused("the token's kid is not a short text", "")
		}
	}
	u.alg, u.typ, u.named = alg, typ, kid != nil
	return nil
}

// verify checks the signature by a key whose kind is of the token's algorithm: the key decides, never the header alone.
func (u *unverified) verify(key any) bool {
	sum := sha256.Sum256([]byte(u.signed))
	switch key := key.(type) {
	case ed25519.PublicKey:
		return u.alg == algEdDSA && ed25519.Verify(key, []byte(u.signed), u.signature)
	case *ecdsa.PublicKey:
		if u.alg != algES256 || len(u.signature) != 64 {
			return false
		}
		r, s := new(big.Int).SetBytes(u.signature[:32]), new(big.Int).SetBytes(u.signature[32:])
		return ecdsa.Verify(key, sum[:], r, s)
	case *rsa.PublicKey:
		return u.alg == algRS256 && rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], u.signature) == nil
	case hmacKey:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(u.signed))
		return u.alg == algHS256 && hmac.Equal(mac.Sum(nil), u.signature)
	}
	return false
}

// judge checks the claims of a token whose signature is good against what its issuer may say, at a time.
func (u *unverified) judge(s *issuer, now time.Time) (*Token, *wire.Problem) {
	if !s.types[strings.ToLower(strings.TrimPrefix(u.typ, "application/"))] {
		return nil, refused("the token is of another type than this server takes", "the header typ is JWT or at+jwt")
	}
	if !u.members.has("aud", s.audience) {
		return nil, refused("the token is for another audience", "the claim aud has to name this server, as auth.issuers in laaster.yaml does")
	}
	t := &Token{Issuer: u.issuer}
	if p := u.times(t, s, now); p != nil {
		return nil, p
	}
	subject, ok := u.members.text("sub")
	if !ok || !plain(subject) || subject == "" {
		return nil, refused("the token has no subject", "the claim sub is a text of up to 255 bytes")
	}
	subject = s.prefix + subject
	if subject == Anonymous().Subject || subject == reserved {
		return nil, refused("the token's subject is a name that this server uses itself", "anon and operator are nobody's")
	}
	for _, c := range []struct {
		name string
		to   *string
	}{{"jti", &t.ID}, {"sid", &t.Session}} {
		if _, there := u.members[c.name]; there {
			if *c.to, ok = u.members.text(c.name); !ok || !plain(*c.to) {
				return nil, refused("the token's "+c.name+" is not a short text", "")
			}
		}
	}
	t.Claims, t.Roles = u.claims, s.roles(u.claims)
	if len(t.Roles) > maxRoles {
		return nil, refused("the token names more than "+strconv.Itoa(maxRoles)+" roles", "ask the issuer for fewer")
	}
	t.subject = subject
	return t, nil
}

// reserved is the subject of acts on the admin listener, in the audit trail.
const reserved = "operator"

// plain reports whether a text may name somebody: short, without control characters.
func plain(s string) bool {
	return len(s) <= maxSubject && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// times checks iat, exp and nbf.
func (u *unverified) times(t *Token, s *issuer, now time.Time) *wire.Problem {
	issued, ok1 := u.members.time("iat")
	expires, ok2 := u.members.time("exp")
	if !ok1 || !ok2 {
		return refused("the token does not say when it was issued and when it expires", "the claims iat and exp are seconds since 1970")
	}
	t.Issued, t.Expires = issued, expires
	from, ok := u.members.time("nbf")
	_, there := u.members["nbf"]
	switch {
	case expires.Sub(issued) > s.lifetime || !expires.After(issued):
		return refused("the token lives longer than this server allows", "ask for one of at most "+s.lifetime.String()+", or raise auth.max_lifetime in laaster.yaml")
	case issued.After(now.Add(s.leeway)):
		return refused("the token was issued in the future", "compare the clocks of issuer and server")
	case !now.Before(expires.Add(s.leeway)):
		return expired()
	case there && (!ok || from.After(now.Add(s.leeway))):
		return refused("the token is not good yet", "compare the clocks of issuer and server")
	}
	return nil
}

func expired() *wire.Problem {
	return wire.NewProblem(wire.TokenExpired, "the token has expired").WithField("token", "get a new one from its issuer")
}

// time returns a member that is a NumericDate: seconds since 1970.
func (o object) time(name string) (time.Time, bool) {
	v, there := o[name]
	if !there || len(v) == 0 || len(v) > 32 || v[0] == '"' {
		return time.Time{}, false
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 253402300799 { // the end of the year 9999
		return time.Time{}, false
	}
	whole, part := math.Modf(f)
	return time.Unix(int64(whole), int64(part*1e9)).UTC(), true
}

// has reports whether a member is a text, or a list with it.
func (o object) has(name, want string) bool {
	v, there := o[name]
	return there && slices.Contains(texts(v), want)
}

// texts returns a text, or the texts of a list. What is no text is left out.
func texts(v []byte) (out []string) {
	each := func(e []byte) bool {
		if s, ok := claimText(e); ok && e[0] == '"' {
			out = append(out, s)
		}
		return true
	}
	if len(v) > 0 && v[0] == '[' {
		_ = wire.Elements(v, each)
	} else {
		each(v)
	}
	return out
}
