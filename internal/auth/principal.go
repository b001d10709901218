package auth

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"time"
)

// Principal is who asks. Comparable; safe to copy. Two principals of one token are equal when they come from one address.
type Principal struct {
	Subject string // auth_subject()
	Role    string // auth_role(): the first role of the token that the app declares
	// From is the address that the request came from, without a port; IPv6 by its /64, which one caller has. What is shared out
	// between callers is shared out by subject and address: without tokens all have one subject. The zero value is one caller, too.
	From netip.Addr
	// Token is what the caller showed, verified. nil: none, as every caller of an app without issuers.
	Token *Token
}

// Token is a verified token. Immutable, and shared by all requests that bring it.
type Token struct {
	Issuer, ID, Session string // iss, jti, sid; the last two may be empty
	Roles               []string
	Issued, Expires     time.Time
	Claims              []byte // all claims, a JSON object
	subject             string // Principal.Subject of whoever shows it
	leeway              time.Duration
}

// Ends returns when the token is believed no longer: Expires, and how far clocks may differ.
func (t *Token) Ends() time.Time { return t.Expires.Add(t.leeway) }

// Anonymous returns the principal of callers without a token.
func Anonymous() Principal { return Principal{Subject: "anon", Role: "anon"} }

// public is the role that every caller has.
const public = "public"

// HasRole says whether p may do what role may: its role, any other role of its token, and public, which everybody has.
func (p Principal) HasRole(role string) bool {
	return role == p.Role || role == public || p.Token != nil && slices.Contains(p.Token.Roles, role)
}

// Claim returns the claim at path, the names of nested objects joined by dots: the text of a string, number or bool, the JSON text of
// objects and arrays. False: there is none, or it is null. A name that has dots itself is found before they are taken apart.
func (p Principal) Claim(path string) (string, bool) {
	if p.Token == nil {
		return "", false
	}
	v, ok := claimAt(p.Token.Claims, path)
	if !ok {
		return "", false
	}
	return claimText(v)
}

// claimAt returns the value at a path of an object.
func claimAt(object []byte, path string) (json.RawMessage, bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(object, &members) != nil {
		return nil, false
	}
	if v, ok := members[path]; ok {
		return v, true
	}
	for i := 0; i < len(path); i++ {
		if path[i] != '.' {
			continue
		}
		if inner := members[path[:i]]; len(inner) > 0 && inner[0] == '{' {
			if v, ok := claimAt(inner, path[i+1:]); ok {
				return v, true
			}
		}
	}
	return nil, false
}

// claimText returns a value as auth_claim gives it.
func claimText(v json.RawMessage) (string, bool) {
	switch {
	case len(v) == 0 || bytes.Equal(v, []byte("null")):
		return "", false
	case v[0] == '"':
		var s string
		return s, json.Unmarshal(v, &s) == nil
	}
	return string(v), true
}

// At returns p as it calls from remote, an address with a port as net/http gives it. What is no IP address leaves p as it is.
func (p Principal) At(remote string) Principal {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return p
	}
	p.From = a.Addr().Unmap().WithZone("")
	if p.From.Is6() {
		if net, err := p.From.Prefix(64); err == nil {
			p.From = net.Addr()
		}
	}
	return p
}

// Caller is whom what is shared out is shared out to: with a token its subject wherever he is, without one the address.
type Caller struct {
	Subject string
	From    netip.Addr
}

// Caller returns whom p shares with.
func (p Principal) Caller() Caller {
	if p.Token != nil {
		return Caller{Subject: p.Subject}
	}
	return Caller{p.Subject, p.From}
}
