package expr

import (
	"archive/zip"
	_ "embed"
	"io"
	"strings"
	"sync"
	"time"

	"laaster/app"
	"laaster/internal/change"
)

// zoneData is the IANA time zone database as Go 1.26 brings it (release 2025c): what a zone means depends on the program
// alone, never on the files of the machine it runs on. It is in the public domain; a newer one is lib/time/zoneinfo.zip of a
// newer Go.
//
//go:embed tzdata/zoneinfo.zip
var zoneData string

// zoneFiles returns the files of the database by their names in lower case.
var zoneFiles = sync.OnceValue(func() map[string]*zip.File {
	r, err := zip.NewReader(strings.NewReader(zoneData), int64(len(zoneData)))
	if err != nil {
		panic("expr: the time zones in the program cannot be read: " + err.Error())
	}
	files := make(map[string]*zip.File, len(r.File))
	for _, f := range r.File {
		files[strings.ToLower(f.Name)] = f
	}
	return files
})

// zoneNamed returns the zone of a name: of the database in any case, an abbreviation, or an offset as POSIX writes it, which
// counts west of Greenwich: '+03' is three hours behind.
func zoneNamed(name []byte) (*time.Location, error) {
	unknown := evalErrorf(codeParameter, "time zone %s not recognized", quoteShort(name))
	if len(name) > 64 {
		return nil, unknown
	}
	word := strings.ToLower(string(trimSpace(name)))
	if offset, ok := zoneAbbreviation(word); ok {
		return time.FixedZone(strings.ToUpper(word), offset), nil
	}
	if f := zoneFiles()[word]; f != nil {
		return loadZone(f)
	}
	rest := strings.TrimLeft(word, "abcdefghijklmnopqrstuvwxyz")
	p := tsParser{s: []byte(rest)}
	if len(rest) > 0 && (rest[0] == '+' || rest[0] == '-') && p.numericZone(rest[0] != '-') && len(p.s) == 0 && !p.offRange {
		return time.FixedZone(strings.ToUpper(word), int(p.offset)), nil
	}
	return nil, unknown
}

func loadZone(f *zip.File) (*time.Location, error) {
	r, err := f.Open()
	if err != nil {
		return nil, evalErrorf(codeUndefined, "time zone %s cannot be read: %s", f.Name, err.Error())
	}
	data, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return nil, evalErrorf(codeUndefined, "time zone %s cannot be read: %s", f.Name, err.Error())
	}
	z, err := time.LoadLocationFromTZData(f.Name, data)
	if err != nil {
		return nil, evalErrorf(codeUndefined, "time zone %s cannot be read: %s", f.Name, err.Error())
	}
	return z, nil
}

// zoneAbbreviation returns the offset east of Greenwich, in seconds, of the abbreviations that are in common use.
func zoneAbbreviation(word string) (int, bool) {
	const hour = 3600
	switch word {
	case "utc", "gmt", "z", "zulu", "uct", "ut", "wet":
		return 0, true
	case "bst", "cet", "met", "west":
		return hour, true
	case "cest", "mest", "eet":
		return 2 * hour, true
	case "eest", "msk":
		return 3 * hour, true
	case "ist":
		return 2 * hour, true
	case "jst", "kst":
		return 9 * hour, true
	case "adt":
		return -3 * hour, true
	case "ast", "edt":
		return -4 * hour, true
	case "est", "cdt":
		return -5 * hour, true
	case "cst", "mdt":
		return -6 * hour, true
	case "mst", "pdt":
		return -7 * hour, true
	case "pst", "akdt":
		return -8 * hour, true
	case "akst":
		return -9 * hour, true
	case "hst":
		return -10 * hour, true
	}
	return 0, false
}

// maxZones bounds the zones that a Ctx remembers.
const maxZones = 64

// zone returns the zone of a name that is not a constant, and remembers it.
func (c *Ctx) zone(name []byte) (*time.Location, error) {
	if z, ok := c.zones[string(name)]; ok {
		return z, nil
	}
	z, err := zoneNamed(name)
	if err != nil {
		return nil, err
	}
	if c.zones == nil || len(c.zones) >= maxZones {
		c.zones = map[string]*time.Location{}
	}
	c.zones[string(name)] = z
	return z, nil
}

// offsetAt returns the offset of a zone in microseconds east of Greenwich.
func offsetAt(z *time.Location, ts int64) int64 {
	_, offset := time.Unix(floorDiv64(ts, usPerSecond), 0).In(z).Zone()
	return int64(offset) * usPerSecond
}

// toLocal returns what clocks in a zone show at a moment.
func toLocal(z *time.Location, ts int64) (change.Value, error) {
	if !isFinite(ts) {
		return change.Int(ts), nil
	}
	return checkInstant(ts + offsetAt(z, ts))
}

// fromLocal returns the moment at which clocks in a zone show local. A time that they skip is read as before the change, one
// that they show twice as the later.
func fromLocal(z *time.Location, local int64) (change.Value, error) {
	if !isFinite(local) {
		return change.Int(local), nil
	}
	before, after := offsetAt(z, local-usPerDay), offsetAt(z, local+usPerDay)
	ts := local - before
	if before != after {
		late := local - after
		holdsBefore, holdsAfter := offsetAt(z, ts) == before, offsetAt(z, late) == after
		if holdsAfter {
			ts = late
		} else if !holdsBefore && offsetAt(z, ts) != after {
			ts = local - offsetAt(z, ts) // two changes within two days
		}
	}
	return checkInstant(ts)
}

func checkInstant(ts int64) (change.Value, error) {
	if ts < minDay*usPerDay || ts >= (maxDay+1)*usPerDay {
		return change.Value{}, instantRange()
	}
	return change.Int(ts), nil
}

// zoneCall computes a function in a zone.
type zoneCall func(c *Ctx, z *time.Location, v change.Value) (change.Value, error)

// buildZoned compiles a function of a zone in argument at and a value in argument of. A constant name is looked up once.
func buildZoned(at, of int, f zoneCall) buildFunc {
	return func(n *Node, _ *change.Layout, args []Func) (Func, error) {
		if k := n.Args[at]; k.Kind == KConst && !k.Value.Null {
			if z, err := zoneNamed(k.Value.B); err == nil {
				return strict1(func(c *Ctx, v change.Value) (change.Value, error) { return f(c, z, v) }, args[of]), nil
			}
		}
		return strict2(func(c *Ctx, name, v change.Value) (change.Value, error) {
			if !isFinite(v.N) {
				return v, nil
			}
			z, err := c.zone(name.B)
			if err != nil {
				return v, err
			}
			return f(c, z, v)
		}, args[at], args[of]), nil
	}
}

func addZones(c *catalog) {
	c.add("timezone(text, timestamptz) timestamp", buildFunc(buildZoned(0, 1, func(_ *Ctx, z *time.Location, v change.Value) (change.Value, error) { return toLocal(z, v.N) })))
	c.add("timezone(text, timestamp) timestamptz", buildFunc(buildZoned(0, 1, func(_ *Ctx, z *time.Location, v change.Value) (change.Value, error) { return fromLocal(z, v.N) })))
	c.add("timezone(interval, timestamptz) timestamp", func(_ *Ctx, a, b change.Value) (change.Value, error) { return shiftZone(a, b, 1) })
	c.add("timezone(interval, timestamp) timestamptz", func(_ *Ctx, a, b change.Value) (change.Value, error) { return shiftZone(a, b, -1) })
	c.add("date_trunc(text, timestamptz, text) timestamptz", func(c *Ctx, a, b, d change.Value) (change.Value, error) {
		if !isFinite(b.N) {
			return b, nil
		}
		z, err := c.zone(d.B)
		if err != nil {
			return b, err
		}
		u := unitNamed(a.B)
		if u == unitNone {
			return b, unknownUnit(a.B, app.Timestamptz)
		}
		return truncIn(z, u, b.N)
	})
}

// shiftZone takes an interval for a zone's offset east of Greenwich.
func shiftZone(zone, v change.Value, sign int64) (change.Value, error) {
	iv := toInterval(zone.B)
	if !isFinite(v.N) {
		return v, nil
	}
	if iv.months != 0 || iv.days != 0 {
		return v, evalErrorf(codeParameter, "interval time zone %s must not include months or days", quoteShort(iv.appendText(nil)))
	}
	ts, ok := addInt64(v.N, iv.us/usPerSecond*usPerSecond*sign)
	if !ok {
		return v, instantRange()
	}
	return checkInstant(ts)
}

// truncIn is date_trunc in a zone. Of a day and less the offset at the time itself counts, of more the one at the result.
func truncIn(z *time.Location, u unit, ts int64) (change.Value, error) {
	if !isFinite(ts) {
		return change.Int(ts), nil
	}
	offset := offsetAt(z, ts)
	local := truncInstant(u, ts+offset)
	if step := fixedUnit(u); step != 0 && step < usPerDay {
		return checkInstant(local - offset)
	}
	return fromLocal(z, local)
}
