package flow

import "fmt"

// births knows since which definition of the log each relation has been what it is now: a client that last saw it before
// that has to take it anew.
type births struct {
	ids  map[string]int // relation by name
	hash []string       // by relation, as the program's own definition has it
	born []uint64       // by relation; 0: not defined so far
}

func (b *births) init(p *Program, opt *Options) error {
	b.ids = map[string]int{}
	b.hash, b.born = make([]string, len(p.Relations)), make([]uint64, len(p.Relations))
	for i, r := range p.Relations {
		b.ids[r.Name] = i
	}
	if opt.Definition == nil {
		return nil
	}
	rels, err := opt.Definition(p.Catalog)
	if err != nil {
		return fmt.Errorf("flow: the program's own definition: %w", err)
	}
	for _, r := range rels {
		if i, ok := b.ids[r.Name]; ok {
			b.hash[i] = r.Hash
		}
	}
	return nil
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
	same := make([]bool, len(b.born))
	for _, r := range rels {
		if i, ok := b.ids[r.Name]; ok {
			same[i] = r.Hash == b.hash[i]
		}
	}
	for i := range b.born {
		switch {
		case !same[i]:
			b.born[i] = 0
		case b.born[i] == 0:
			b.born[i] = seq
		}
	}
	return nil
}

// Birth returns the sequence of the definition since which the relation has the columns and the query that it has now; 0
// when the log so far has no such definition (or Options.Definition is nil).
func (e *Engine) Birth(relation int) uint64 { return e.births.born[relation] }
