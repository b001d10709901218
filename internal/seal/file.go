package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// Limits of a key file.
const (
	maxKeys    = 1000
	maxID      = 64
	maxKeyFile = 256 << 10 // bytes
)

// KeyError says what is wrong with a key file. It never holds anything of a key but its id.
type KeyError struct {
	Where   string // the file, or env:NAME
	Line    int    // counted from 1; 0: the file as a whole
	Problem string // with the remedy
}

// Error implements error.
func (e *KeyError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("key file %s: %s", e.Where, e.Problem)
	}
	return fmt.Sprintf("key file %s, line %d: %s", e.Where, e.Line, e.Problem)
}

// Load reads keys from a file, which nobody but its owner may read, or, with env:NAME, from a variable that holds the same text. [Parse] has the form.
// Errors: [*KeyError], or that of opening the file.
func Load(where string) (*Ring, error) {
	if name, ok := strings.CutPrefix(where, "env:"); ok {
		text, ok := os.LookupEnv(name)
		if !ok {
			return nil, &KeyError{Where: where, Problem: "the variable is not set: set it to the text of a key file, see `laaster key --help`"}
		}
		return Parse(where, []byte(text))
	}
	f, err := os.Open(where)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key file: %w: bring the one that the data was written with, or make one with `laaster key`", err)
	}
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, &KeyError{Where: where, Problem: fmt.Sprintf("others than its owner may use it (mode %04o): chmod 600 %s", perm, where)}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return Parse(where, text)
}

// Parse reads the text of a key file: a key a line, as its id, a space, and 64 hexadecimal digits. Empty lines and lines that begin with # are
// passed over. The first key seals, all open. An id is 1 to 64 of a-z, A-Z, 0-9, dot, underscore and dash. where is for errors, which are [*KeyError].
func Parse(where string, text []byte) (*Ring, error) {
	fail := func(line int, problem string, args ...any) (*Ring, error) {
		return nil, &KeyError{Where: where, Line: line, Problem: fmt.Sprintf(problem, args...)}
	}
	if len(text) > maxKeyFile {
		return fail(0, "it is larger than %d KiB: is it a key file?", maxKeyFile>>10)
	}
	r := &Ring{}
	line := 0
	for l := range bytes.Lines(text) {
		line++
		fields := bytes.Fields(l)
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		if len(fields) != 2 || !validID(fields[0]) || len(fields[1]) != 2*chacha20poly1305.KeySize { // what the line says may be a key: it is not repeated
			return fail(line, "it is not an id, a space and 64 hexadecimal digits: make a line with `laaster key`")
		}
		id := string(fields[0])
		secret := make([]byte, chacha20poly1305.KeySize)
		if _, err := hex.Decode(secret, fields[1]); err != nil {
			return fail(line, "the key %q has something else than hexadecimal digits: make a line with `laaster key`", id)
		}
		if bytes.Count(secret, secret[:1]) == len(secret) {
			return fail(line, "the key %q is one byte repeated, which anybody can guess: make one with `laaster key`", id)
		}
		if r.key(NameOf(id)) != nil {
			return fail(line, "the id %q is that of an earlier line: each key needs an id of its own", id)
		}
		if len(r.keys) == maxKeys {
			return fail(line, "there are more than %d keys: remove those that nothing is sealed with any more", maxKeys)
		}
		aead, err := chacha20poly1305.NewX(secret)
		if err != nil {
			return fail(line, "the key %q: %v", id, err)
		}
		r.keys = append(r.keys, key{id: id, name: NameOf(id), aead: aead})
	}
	if len(r.keys) == 0 {
		return fail(0, "there is no key in it: put a line there that `laaster key` prints")
	}
	return r, nil
}

func validID(id []byte) bool {
	if len(id) > maxID {
		return false
	}
	for _, c := range id {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return len(id) > 0
}

// NewLine returns a line for a key file with a new random key; id "" makes one up. An id that [Parse] would refuse is an error.
func NewLine(id string) (string, error) {
	if id == "" {
		b := make([]byte, 5)
		_, _ = rand.Read(b)
		id = "k-" + strings.ToLower(base32.StdEncoding.EncodeToString(b))
	}
	if !validID([]byte(id)) {
		return "", fmt.Errorf("the id %q of a key is not 1 to %d of a-z, A-Z, 0-9, dot, underscore and dash", id, maxID)
	}
	secret := make([]byte, chacha20poly1305.KeySize)
	_, _ = rand.Read(secret)
	return id + " " + hex.EncodeToString(secret) + "\n", nil
}
