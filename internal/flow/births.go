package flow

import (
	"fmt"
	"maps"
	"slices"
)

// births knows since which definition of the log each relation has been what it is now: a client that last saw it before
// that has to take it anew.
type births struct {
	hash []string         // by relation, as the program's own definition has it
	last map[string]birth // by name, of the log's last definition
}

// birth is a relation of the log and the sequence of the definition since which it has had this hash.
type birth struct {
	hash string
	seq  uint64
}

func (b *births) init(p *Program, opt *Options) error {
	b.hash, b.last = make([]string, len(p.Relations)), map[string]birth{}
	if opt.Definition == nil {
		return nil
	}
	rels, err := opt.Definition(p.Catalog)
	if err != nil {
		return fmt.Errorf("flow: the program's own definition: %w", err)
	}
	hashes := map[string]string{}
	for _, r := range rels {
		hashes[r.Name] = r.Hash
	}
	for i, r := range p.Relations {
		b.hash[i] = hashes[r.Name]
	}
	return nil
}

// state has the last definition's relations, by name.
func (b *births) state(k *keeper) {
	names := slices.Sorted(maps.Keys(b.last))
	n := k.length(len(names))
	if k.loading {
		names, b.last = make([]string, n), make(map[string]birth, n)
	}
	for _, name := range names {
		v := b.last[name]
		k.text(&name)
		k.text(&v.hash)
		k.u64(&v.seq)
		b.last[name] = v
	}
}

// define takes note of a definition entry.
func (b *births) define(seq uint64, doc []byte, opt *Options) error {
	if opt.Definition == nil {
		return nil
	}
	rels, err := opt.Definition(doc)
	if err != nil {
		return fmt.Errorf("definition: %w", err)
	}
	last := make(map[string]birth, len(rels))
	for _, r := range rels {
		if last[r.Name] = b.last[r.Name]; last[r.Name].hash != r.Hash {
			last[r.Name] = birth{r.Hash, seq}
		}
	}
	b.last = last
	return nil
}

// Birth returns the sequence of the definition since which the relation has the columns and the query that it has now; 0
// when the log so far has no such definition (or Options.Definition is nil).
func (e *Engine) Birth(relation int) uint64 {
	if b := e.births.last[e.prog.Relations[relation].Name]; b.hash == e.births.hash[relation] {
		return b.seq
	}
	return 0
}
