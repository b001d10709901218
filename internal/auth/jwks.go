package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"laaster/internal/wire"
)

// Bounds of a key set.
const (
	maxKeySet = 64 << 10 // bytes of text
	maxKeys   = 64
	maxKeyID  = 256
)

// The algorithms. HS256 is for development alone: who can verify can also sign.
const (
	algEdDSA = "EdDSA"
	algES256 = "ES256"
	algRS256 = "RS256"
	algHS256 = "HS256"
)

// keyID names a key of one issuer. A key has exactly one algorithm: a token that names another one has no key.
type keyID struct{ kid, alg string }

// keySet is the keys that one issuer publishes.
type keySet map[keyID]any // ed25519.PublicKey, *ecdsa.PublicKey, *rsa.PublicKey, or hmacKey

// hmacKey is a secret that verifies and signs.
type hmacKey []byte

// ParseKeySet checks a JSON Web Key Set and returns how many of its keys can verify tokens.
func ParseKeySet(text []byte) (int, error) {
	set, err := parseKeySet(text)
	return len(set), err
}

// parseKeySet reads a JSON Web Key Set. Keys of other kinds, uses and algorithms are passed over; a key that is broken, ambiguous or private
// makes the whole set wrong.
func parseKeySet(text []byte) (keySet, error) {
	if len(text) > maxKeySet {
		return nil, fmt.Errorf("the key set has more than %d bytes", maxKeySet)
	}
	o, err := readObject(text)
	if err != nil {
		return nil, fmt.Errorf("the key set is not a JSON object: %w", err)
	}
	list, there := o["keys"]
	if !there {
		return nil, errors.New("the key set has no member keys")
	}
	set, n := keySet{}, 0
	var wrong error
	if p := wire.Elements(list, func(text []byte) bool {
		if n++; n > maxKeys {
			wrong = fmt.Errorf("the key set has more than %d keys", maxKeys)
			return false
		}
		id, key, err := parseKey(text)
		if err != nil {
			wrong = fmt.Errorf("key %d: %w", n, err)
			return false
		}
		if key == nil {
			return true
		}
		if _, twice := set[id]; twice {
			wrong = fmt.Errorf("key %d has the kid and algorithm of another", n)
			return false
		}
		set[id] = key
		return true
	}); p != nil && wrong == nil {
		wrong = errors.New(p.Detail)
	}
	if wrong != nil {
		return nil, wrong
	}
	return set, nil
}

// parseKey reads one key; nil without an error: it is none of those that verify tokens here.
func parseKey(text []byte) (id keyID, key any, err error) {
	k, err := readObject(text)
	if err != nil {
		return id, nil, err
	}
	kty, _ := k.text("kty")
	if _, private := k["d"]; private {
		return id, nil, errors.New("it is a private key, which nobody may publish")
	}
	if use, there := k.text("use"); there && use != "sig" {
		return id, nil, nil
	}
	if !k.verifies() {
		return id, nil, nil
	}
	id.kid, _ = k.text("kid")
	if len(id.kid) > maxKeyID {
		return id, nil, errors.New("its kid is too long")
	}
	switch kty {
	case "OKP":
		id.alg, key, err = edKey(k)
	case "EC":
		id.alg, key, err = ecKey(k)
	case "RSA":
		id.alg, key, err = rsaKey(k)
	}
	if alg, there := k.text("alg"); there && alg != id.alg {
		return id, nil, nil // of an algorithm that is not spoken
	}
	return id, key, err
}

// verifies says whether key_ops, when it is there, allows it.
func (o object) verifies() bool {
	list, there := o["key_ops"]
	if !there {
		return true
	}
	found := false
	p := wire.Elements(list, func(v []byte) bool { found = found || string(v) == `"verify"`; return true })
	return p == nil && found
}

func edKey(k object) (string, any, error) {
	if crv, _ := k.text("crv"); crv != "Ed25519" {
		return "", nil, nil
	}
	x, err := k.bytes("x")
	if err == nil && len(x) != ed25519.PublicKeySize {
		err = errors.New("its x has another length than an Ed25519 key")
	}
	return algEdDSA, ed25519.PublicKey(x), err
}

func ecKey(k object) (string, any, error) {
	if crv, _ := k.text("crv"); crv != "P-256" {
		return "", nil, nil
	}
	x, errX := k.bytes("x")
	y, errY := k.bytes("y")
	if err := errors.Join(errX, errY); err != nil {
		return algES256, nil, err
	}
	if len(x) != 32 || len(y) != 32 {
		return algES256, nil, errors.New("its coordinates do not have 32 bytes")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y)) // refuses points that are not on the curve
	return algES256, key, err
}

func rsaKey(k object) (string, any, error) {
	n, errN := k.bytes("n")
	e, errE := k.bytes("e")
	if err := errors.Join(errN, errE); err != nil {
		return algRS256, nil, err
	}
	modulus := new(big.Int).SetBytes(n)
	if bits := modulus.BitLen(); bits < 2048 || bits > 8192 {
		return algRS256, nil, fmt.Errorf("its modulus has %d bits: 2048 to 8192 are taken", bits)
	}
	exponent := new(big.Int).SetBytes(e)
	if !exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() >= 1<<31 || exponent.Int64()%2 == 0 || modulus.Bit(0) == 0 {
		return algRS256, nil, errors.New("its modulus or exponent is none of RSA")
	}
	return algRS256, &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

// find returns the key of a token's header. A token without kid has one only where no other key has its algorithm.
func (s keySet) find(kid, alg string, named bool) (any, bool) {
	if named {
		key, ok := s[keyID{kid, alg}]
		return key, ok
	}
	var only any
	for id, key := range s {
		if id.alg == alg {
			if only != nil {
				return nil, false
			}
			only = key
		}
	}
	return only, only != nil
}

// object is a JSON object, its members by their exact names.
type object map[string][]byte

// readObject reads an object in which no name is there twice, in none of its objects.
func readObject(text []byte) (object, error) {
	o := object{}
	var wrong error
	if p := wire.Members(text, func(name string, value []byte) bool {
		if _, twice := o[name]; twice {
			wrong = errors.New("a member is there twice")
			return false
		}
		o[name] = value
		wrong = unambiguous(value)
		return wrong == nil
	}); p != nil && wrong == nil {
		wrong = errors.New(p.Detail)
	}
	return o, wrong
}

// unambiguous refuses a value somewhere in which a name is there twice.
func unambiguous(value []byte) (err error) {
	switch {
	case len(value) == 0:
	case value[0] == '{':
		_, err = readObject(value)
	case value[0] == '[':
		_ = wire.Elements(value, func(v []byte) bool { // syntax was checked with the whole
			err = unambiguous(v)
			return err == nil
		})
	}
	return err
}

// text returns a member that is a text.
func (o object) text(name string) (string, bool) {
	v, there := o[name]
	if !there || len(v) == 0 || v[0] != '"' {
		return "", false
	}
	return claimText(v)
}

var errBase64 = errors.New("it is not base64url without padding")

// bytes returns a member that is bytes in base64url.
func (o object) bytes(name string) ([]byte, error) {
	text, ok := o.text(name)
	if !ok {
		return nil, fmt.Errorf("it has no %s", name)
	}
	return decode64(text)
}

// decode64 reads base64url: one form only, without line ends, padding or bits that mean nothing.
func decode64(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") { // which the decoder passes over
		return nil, errBase64
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errBase64
	}
	return b, nil
}
