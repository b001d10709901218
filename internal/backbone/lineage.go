package backbone

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
)

// Lineage says of which log this one was made. A log that nobody rewrote has none.
type Lineage struct {
	Log    string `json:"log"` // this one
	Shard  uint32 `json:"shard"`
	Parent string `json:"parent"`
	// Branch is the position up to which this log has what the parent had: behind it batches were lost, or left out.
	Branch    uint64     `json:"branch"`
	First     uint64     `json:"first"`          // where this log began when it was made
	Lost      []Range    `json:"lost,omitempty"` // batches of the parent that are lost, in this log or before it begins
	Reason    string     `json:"reason"`         // repair or restore
	At        string     `json:"at"`             // when, RFC 3339
	Ancestors []Ancestor `json:"ancestors,omitempty"`
}

// Ancestor is a log that an earlier rewriting ended, the newest first.
type Ancestor struct {
	Log    string `json:"log"`
	Branch uint64 `json:"branch"`
	Reason string `json:"reason"`
	At     string `json:"at"`
}

const (
	lineageVersion = 1
	lineagePrefix  = "laaster lineage, format "
	maxAncestors   = 1000 // older ones are forgotten
	maxLostRanges  = 10_000
)

// Descend returns the ancestors of a log that is made of the one with the lineage l, which may be nil.
func (l *Lineage) Descend() []Ancestor {
	if l == nil {
		return nil
	}
	out := append([]Ancestor{{Log: l.Parent, Branch: l.Branch, Reason: l.Reason, At: l.At}}, l.Ancestors...)
	return out[:min(len(out), maxAncestors)]
}

var errLineage = errors.New("its bytes changed after they were written: `laaster repair` moves it away")

// ReadLineage returns the lineage of the log in a data folder, nil when it has none.
func ReadLineage(dir string) (*Lineage, error) {
	raw, err := os.ReadFile(lineagePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var l *Lineage
	if err == nil {
		l, err = parseLineage(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("the lineage file %s: %w", lineagePath(dir), err)
	}
	return l, nil
}

func lineagePath(dir string) string { return filepath.Join(dir, "lineage") }

func parseLineage(raw []byte) (*Lineage, error) {
	first, rest, _ := bytes.Cut(raw, []byte("\n"))
	text, ok := bytes.CutPrefix(first, []byte(lineagePrefix))
	version, err := strconv.Atoi(string(text))
	if !ok || err != nil || version < 1 {
		return nil, errLineage
	}
	if version > lineageVersion {
		return nil, &change.NewerError{What: "lineage file", Version: version, Known: lineageVersion}
	}
	sum, body, _ := bytes.Cut(rest, []byte("\n"))
	if want := sha256.Sum256(body); !bytes.Equal(sum, []byte(hex.EncodeToString(want[:]))) {
		return nil, errLineage
	}
	l := &Lineage{}
	if err := json.Unmarshal(body, l); err != nil {
		return nil, fmt.Errorf("%w (%w)", errLineage, err)
	}
	for _, id := range []string{l.Log, l.Parent} {
		if _, err := change.ParseLogID(id); err != nil {
			return nil, fmt.Errorf("%w (%w)", errLineage, err)
		}
	}
	return l, nil
}

func encodeLineage(l *Lineage) ([]byte, error) {
	body, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	sum := sha256.Sum256(body)
	return fmt.Appendf(nil, "%s%d\n%s\n%s", lineagePrefix, lineageVersion, hex.EncodeToString(sum[:]), body), nil
}

// WriteLineage makes l the lineage in a folder, durably. Of very many lost ranges it keeps the first 10,000.
func WriteLineage(dir string, l *Lineage) error {
	l.Lost = l.Lost[:min(len(l.Lost), maxLostRanges)]
	raw, err := encodeLineage(l)
	if err == nil {
		err = disk.Replace(lineagePath(dir), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the lineage file: %w", err)
	}
	fault.Point("rewrite.lineage_written")
	return nil
}
