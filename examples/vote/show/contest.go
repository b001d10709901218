// Package show turns the points of a real song contest into the run of a live event: who is called when, in which order the
// points are read out, and how the phone votes come in. It owns the timetable and the identities of the votes, both
// functions of the contest and of the name of the run alone, so that playing a run again, in whole or in part, repeats the same
// votes. It does no I/O and reads no clock.
package show

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// Points is what one country gave to another. Without a split Total is all that is known.
type Points struct {
	From, To           string
	Total, Phone, Jury int
}

// Contest is one show.
type Contest struct {
	Year    int
	Round   string   // final, semi-final, semi-final-1 or semi-final-2
	Split   bool     // jury and phone points are known apart (since 2016)
	Givers  []string // countries that gave points, sorted
	Entries []string // countries that sang, sorted, those without points included
	Points  []Points // each more than zero
}

// ID names the contest: 2022-final.
func (c *Contest) ID() string { return strconv.Itoa(c.Year) + "-" + c.Round }

// Result returns the official points of every entry.
func (c *Contest) Result() map[string]int {
	result := make(map[string]int, len(c.Entries))
	for _, e := range c.Entries {
		result[e] = 0
	}
	for _, p := range c.Points {
		result[p.To] += p.Total
	}
	return result
}

// Contests holds shows in the order of their years.
type Contests []*Contest

// Find returns the contest of that year and round, or nil.
func (cs Contests) Find(year int, round string) *Contest {
	for _, c := range cs {
		if c.Year == year && c.Round == round {
			return c
		}
	}
	return nil
}

// Read reads the table of examples/vote/data: gzipped CSV with a header.
func Read(zipped []byte) (Contests, error) {
	z, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return nil, fmt.Errorf("votes: %w", err)
	}
	r := csv.NewReader(z)
	r.FieldsPerRecord = 7
	r.ReuseRecord = true
	if _, err := r.Read(); err != nil {
		return nil, fmt.Errorf("votes: header: %w", err)
	}
	byID := map[string]*Contest{}
	for {
		row, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("votes: %w", err)
		}
		if err := add(byID, row); err != nil {
			line, _ := r.FieldPos(0)
			return nil, fmt.Errorf("votes: line %d: %w", line, err)
		}
	}
	return sorted(byID), nil
}

func add(byID map[string]*Contest, row []string) error {
	year, err := strconv.Atoi(row[0])
	if err != nil {
		return err
	}
	p := Points{From: row[2], To: row[3]}
	if p.Total, err = strconv.Atoi(row[4]); err != nil {
		return err
	}
	split := row[5] != ""
	if split {
		if p.Phone, err = strconv.Atoi(row[5]); err != nil {
			return err
		}
		if p.Jury, err = strconv.Atoi(row[6]); err != nil {
			return err
		}
		if p.Phone+p.Jury != p.Total {
			return fmt.Errorf("%d phone and %d jury points are not %d", p.Phone, p.Jury, p.Total)
		}
	}
	c := &Contest{Year: year, Round: row[1], Split: split}
	if have := byID[c.ID()]; have != nil {
		c = have
	} else {
		byID[c.ID()] = c
	}
	c.Entries = append(c.Entries, p.To)
	if p.Total > 0 {
		c.Points = append(c.Points, p)
		c.Givers = append(c.Givers, p.From)
	}
	return nil
}

func sorted(byID map[string]*Contest) Contests {
	var all Contests
	for _, c := range byID {
		for _, list := range []*[]string{&c.Givers, &c.Entries} {
			slices.Sort(*list)
			*list = slices.Clip(slices.Compact(*list))
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *Contest) int { return cmp.Or(cmp.Compare(a.Year, b.Year), cmp.Compare(a.Round, b.Round)) })
	return all
}
