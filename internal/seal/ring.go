package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"laaster/internal/kit/check"
)

// The sealed form is: which key (8 bytes), nonce (24 bytes), ciphertext (as long as the plain text), tag (16 bytes).
const (
	nameSize  = 8
	nonceSize = chacha20poly1305.NonceSizeX
	tagSize   = chacha20poly1305.Overhead

	// Overhead is by how many bytes the sealed form is longer than the plain one.
	Overhead = nameSize + nonceSize + tagSize
)

// ErrForged says that sealed bytes did not open with the key that they name.
var ErrForged = errors.New("sealed bytes that do not open: they were changed, or belong somewhere else, " +
	"or the key file has another key under the id that sealed them")

// KeyName is how the sealed form names a key: the first 8 bytes of the SHA-256 of its id.
type KeyName [nameSize]byte

// NameOf returns the name of the key with this id.
func NameOf(id string) KeyName {
	sum := sha256.Sum256([]byte(id))
	return KeyName(sum[:])
}

// String returns the name in hexadecimal.
func (n KeyName) String() string { return hex.EncodeToString(n[:]) }

// UnknownKeyError says that bytes are sealed with a key that the ring does not have.
type UnknownKeyError struct {
	Key  KeyName
	Have []string // ids of the keys that are there, in the order of the key file
}

// Error implements error.
func (e *UnknownKeyError) Error() string {
	if len(e.Have) == 0 {
		return fmt.Sprintf("sealed with the key whose id hashes to %s, but there are no keys: set encryption.keys to the key file that has it", e.Key)
	}
	return fmt.Sprintf("sealed with the key whose id hashes to %s, which is not among the keys %s: put its line back into the key file, below the first",
		e.Key, strings.Join(e.Have, ", "))
}

// Ring is the keys of a data folder. It does not change; safe for concurrent use.
//
// A nil Ring has no keys: it opens nothing (every Open is an *UnknownKeyError) and must not be asked to seal (Seal panics, so that nobody
// stores plain bytes who believes them sealed); whoever may run without encryption asks for nil first.
type Ring struct {
	keys []key // the first one seals
}

type key struct {
	id   string
	name KeyName
	aead cipher.AEAD
}

// IDs returns the ids of the keys in the order of the key file; the first is the one that seals.
func (r *Ring) IDs() []string {
	if r == nil {
		return nil
	}
	out := make([]string, len(r.keys))
	for i := range r.keys {
		out[i] = r.keys[i].id
	}
	return out
}

// Has reports whether the ring can open what a key of this name sealed.
func (r *Ring) Has(name KeyName) bool { return r.key(name) != nil }

// Sealing returns the name of the key that seals. The ring must not be nil.
func (r *Ring) Sealing() KeyName { return r.keys[0].name }

func (r *Ring) key(name KeyName) *key {
	if r == nil {
		return nil
	}
	if i := slices.IndexFunc(r.keys, func(k key) bool { return k.name == name }); i >= 0 {
		return &r.keys[i]
	}
	return nil
}

// Seal appends to dst the sealed form of plain, bound to aad: len(plain)+Overhead bytes. plain must not overlap the spare room of dst. The ring must not be nil.
func (r *Ring) Seal(dst, plain, aad []byte) []byte {
	check.That(r != nil, "bytes are sealed without keys")
	k := &r.keys[0]
	dst = slices.Grow(dst, len(plain)+Overhead)
	dst = append(dst, k.name[:]...)
	at := len(dst)
	dst = dst[:at+nonceSize]
	nonce := dst[at:]
	_, _ = rand.Read(nonce) // never fails: it ends the process instead
	return k.aead.Seal(dst, nonce, plain, aad)
}

// Open appends to dst what was sealed with this aad. sealed must not overlap the spare room of dst. Errors: [*UnknownKeyError], [ErrForged]; dst is then
// returned as it was.
func (r *Ring) Open(dst, sealed, aad []byte) ([]byte, error) {
	out, err := r.open(dst, sealed, aad)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// OpenInPlace is Open without a second buffer: it returns the plain text as a part of sealed, which it overwrites, also when it fails.
func (r *Ring) OpenInPlace(sealed, aad []byte) ([]byte, error) {
	at := min(nameSize+nonceSize, len(sealed))
	return r.open(sealed[at:at], sealed, aad)
}

func (r *Ring) open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, fmt.Errorf("%w (%d bytes are too few)", ErrForged, len(sealed))
	}
	name := KeyName(sealed)
	k := r.key(name)
	if k == nil {
		return nil, &UnknownKeyError{Key: name, Have: r.IDs()}
	}
	out, err := k.aead.Open(dst, sealed[nameSize:nameSize+nonceSize], sealed[nameSize+nonceSize:], aad)
	if err != nil {
		return nil, ErrForged
	}
	return out, nil
}
