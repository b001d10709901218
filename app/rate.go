package app

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Rate is how often something may happen: Count in each Per on average, and Burst of it at once after a pause. The zero value is no bound.
type Rate struct {
	Count float64
	Per   time.Duration
	Burst float64 // at least 1
}

// None reports whether r bounds nothing.
func (r Rate) None() bool { return r.Count == 0 }

// String returns the rate as [ParseRate] reads it; "" is no bound.
func (r Rate) String() string {
	if r.None() {
		return ""
	}
	return r.Average() + " burst " + number(r.Burst)
}

// Average returns the rate without its burst.
func (r Rate) Average() string {
	s := number(r.Count) + "/"
	switch r.Per {
	case time.Second:
		s += "s"
	case time.Minute:
		s += "min"
	case time.Hour:
		s += "h"
	default:
		s += r.Per.String()
	}
	return s
}

// BurstText returns the burst as a number.
func (r Rate) BurstText() string { return number(r.Burst) }

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// Bounds of a rate and its burst.
const (
	maxRateCount = 1 << 40
	maxRateBurst = 1 << 40
	maxRateFill  = 24 * time.Hour // until a spent burst is whole again
)

// ParseRate reads "20/s", "1200/min", "10/h" or "10MiB/s", with " burst 40" behind it or without: then the burst is what two seconds of a rate per second
// let through, or one Per of the others, and at least 1. "" is no bound.
func ParseRate(text string) (Rate, error) {
	rate, burst, bursts := strings.Cut(strings.TrimSpace(text), " burst ")
	if rate == "" {
		return Rate{}, nil
	}
	count, per, ok := strings.Cut(rate, "/")
	n, good := amount(count)
	r := Rate{Count: n}
	switch strings.TrimSpace(per) {
	case "s":
		r.Per = time.Second
	case "min":
		r.Per = time.Minute
	case "h":
		r.Per = time.Hour
	default:
		ok = false
	}
	if !ok || !good || n <= 0 || n > maxRateCount {
		return Rate{}, fmt.Errorf("%q is not a rate: write a number per s, min or h, such as 20/s, 100/min or 10MiB/s", text)
	}
	if r.Burst = max(r.Count, 1); r.Per == time.Second {
		r.Burst = max(2*r.Count, 1)
	}
	if bursts {
		if r.Burst, good = amount(burst); !good {
			return Rate{}, fmt.Errorf("%q is not a burst: write a number, such as 20/s burst 40", text)
		}
	}
	return r, r.check()
}

// check says why the burst does not fit the rate.
func (r Rate) check() error {
	switch {
	case r.Burst < 1 || r.Burst > maxRateBurst:
		return fmt.Errorf("a burst is from 1 to %d", int64(maxRateBurst))
	case r.Burst/r.Count*float64(r.Per) > float64(maxRateFill):
		return fmt.Errorf("a burst of %s at this rate is whole again only after more than a day", number(r.Burst))
	}
	return nil
}

// WithBurst returns r with another burst, or says why it cannot be.
func (r Rate) WithBurst(burst float64) (Rate, error) {
	r.Burst = burst
	return r, r.check()
}

// amount reads a number with or without a unit of size.
func amount(text string) (float64, bool) {
	s, mul := strings.TrimSpace(text), 1.0
	for _, u := range units() {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			s, mul = strings.TrimSpace(rest), float64(u.size)
			break
		}
	}
	for _, c := range s {
		if (c < '0' || c > '9') && c != '.' {
			return 0, false
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	return v * mul, err == nil && !math.IsInf(v, 0)
}

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (r *Rate) UnmarshalYAML(n ast.Node) error {
	v, err := ParseRate(n.GetToken().Value)
	if err != nil {
		return wrongValue(n, err.Error())
	}
	*r = v
	return nil
}

// Rates is limits.rates: how much may come. A caller is an address (IPv6: a /64) as long as it shows no token, and a subject with one: what others do
// at the address of somebody with a token is not counted against him. All are unbounded by default.
type Rates struct {
	// Exempt is addresses and prefixes that are not one caller, such as a proxy's: neither the rates of addresses nor abuse count there. Default: loopback, and
	// everything with plain_http.
	Exempt    []string  `yaml:"exempt"`
	Keys      int       `yaml:"keys"`      // callers and tables that are told apart; beyond it new addresses begin with the least that another has left. Default 1000000, 1000 to 16000000
	Address   CallRates `yaml:"address"`   // of callers without a token, together for each address; sockets of all callers there
	Principal CallRates `yaml:"principal"` // of each subject with a token
	Table     DataRates `yaml:"table"`     // of each table
	App       CallRates `yaml:"app"`       // of all together, without open
}

// DataRates bounds what is written.
type DataRates struct {
	Messages Rate `yaml:"messages"` // requests, frames, and rows beyond the first of each
	Bytes    Rate `yaml:"bytes"`    // of bodies and frames
}

// CallRates bounds what callers do.
type CallRates struct {
	Messages      Rate `yaml:"messages"`      // requests, frames, and rows beyond the first of each
	Bytes         Rate `yaml:"bytes"`         // of bodies and frames
	Connections   Rate `yaml:"connections"`   // new live connections
	Subscriptions Rate `yaml:"subscriptions"` // new subscriptions
	Replay        Rate `yaml:"replay"`        // bytes of rows and history at the beginning of subscriptions
	Query         Rate `yaml:"query"`         // cost of reads: one and another for each 1,000 rows looked at
	Sockets       Rate `yaml:"sockets"`       // new connections of an address, before anything is read of them; of addresses alone
	Open          int  `yaml:"open"`          // live connections at one time; 0: as many as there may be
}

// Abuse is limits.abuse: what happens to callers who do nothing but harm. Faults count points, which are forgiven at one a second.
type Abuse struct {
	Slow   int      `yaml:"slow"`    // points from which a caller has five requests a second; 0: never. Default 60, up to 100000
	Cut    int      `yaml:"cut"`     // points from which nothing is answered for a while; 0: never. Default 300, up to 100000
	CutFor Duration `yaml:"cut_for"` // how long. Default 1m, 1s to 1h
}

func defaultRates() Rates { return Rates{Keys: 1_000_000} }

// Exempted returns the prefixes whose addresses are not one caller.
func (s *Settings) Exempted() []netip.Prefix {
	names := s.Limits.Rates.Exempt
	if names == nil {
		if names = []string{"127.0.0.0/8", "::1"}; s.PlainHTTP {
			names = []string{"0.0.0.0/0", "::/0"}
		}
	}
	var out []netip.Prefix
	for _, text := range names {
		if p, err := ParseExempt(text); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func (r *Rates) bounds() []bound {
	out := []bound{count("limits.rates.keys", r.Keys, 1000, 16_000_000)}
	for i, text := range r.Exempt {
		if _, err := ParseExempt(text); err != nil {
			out = append(out, bound{fmt.Sprintf("limits.rates.exempt[%d]", i), err.Error(), "write an address or a prefix, such as 10.0.0.7 or 10.0.0.0/8"})
		}
	}
	// Rates are checked as they are read; these are the names of the keys.
	for _, level := range []string{"address", "principal", "app"} {
		for _, measure := range []string{"messages", "bytes", "connections", "subscriptions", "replay", "query"} {
			out = append(out, bound{key: "limits.rates." + level + "." + measure})
		}
	}
	out = append(out, bound{key: "limits.rates.table.messages"}, bound{key: "limits.rates.table.bytes"}, bound{key: "limits.rates.exempt"})
	return append(out, count("limits.rates.address.open", r.Address.Open, 0, 1_000_000), count("limits.rates.principal.open", r.Principal.Open, 0, 1_000_000),
		count("limits.rates.app.open", r.App.Open, 0, 0), bound{key: "limits.rates.address.sockets"}, ofAddresses("limits.rates.principal.sockets", r.Principal.Sockets),
		ofAddresses("limits.rates.app.sockets", r.App.Sockets))
}

// ofAddresses refuses a rate that only addresses can have.
func ofAddresses(key string, r Rate) bound {
	if r.None() {
		return bound{key: key}
	}
	return bound{key, "there is no such rate: who connects is not known before something is read", "limits.rates.address.sockets is the rate of an address"}
}

func (a *Abuse) bounds() []bound {
	out := []bound{count("limits.abuse.slow", a.Slow, 0, 100_000), count("limits.abuse.cut", a.Cut, 0, 100_000),
		duration("limits.abuse.cut_for", a.CutFor, time.Second, time.Hour)}
	if a.Cut > 0 && a.Slow > a.Cut {
		out = append(out, bound{"limits.abuse.cut", strconv.Itoa(a.Cut) + " is less than limits.abuse.slow", "slow first, then cut"})
	}
	return out
}

func defaultAbuse() Abuse { return Abuse{Slow: 60, Cut: 300, CutFor: Duration(time.Minute)} }

// ParseExempt reads an address or a prefix of limits.rates.exempt. Of an IPv6 address the first 64 bits count, as everywhere.
func ParseExempt(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a prefix such as 10.0.0.0/8", text)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() || p.Addr().Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a prefix such as 10.0.0.0/8", text)
	}
	if p.Addr().Is6() && p.Bits() > 64 {
		p = netip.PrefixFrom(p.Addr(), 64)
	}
	return p.Masked(), nil
}

// RatePer says for whom WITH (rate = …) of a table counts.
type RatePer uint8

// For whom a table's rate counts.
const (
	RateOfAll      RatePer = iota // '100/s': all together
	RatePerSubject                // '20/s per subject': each subject with a token, each address without
	RatePerAddress                // '20/s per address'
)

// Whose returns the callers that share a rate, in words.
func (p RatePer) Whose() string {
	return [...]string{"all callers together", "one subject", "one address"}[p]
}

// ParseTableRate reads the option rate of a table: a rate, and "per subject" or "per address" behind it or nothing.
func ParseTableRate(text string) (Rate, RatePer, error) {
	per := RateOfAll
	for suffix, p := range map[string]RatePer{" per subject": RatePerSubject, " per address": RatePerAddress} {
		if rest, ok := strings.CutSuffix(strings.TrimSpace(text), suffix); ok {
			text, per = rest, p
		}
	}
	if strings.Contains(text, "burst") {
		return Rate{}, per, fmt.Errorf("the burst of a table is an option of its own: burst = 40")
	}
	r, err := ParseRate(text)
	if err == nil && r.None() {
		err = fmt.Errorf("the rate is empty: write a number per s, min or h, such as '20/s per subject'")
	}
	return r, per, err
}

// Rate returns the option rate of a table with its option burst. False: it has none.
func (t *Table) Rate() (Rate, RatePer, bool) {
	text, ok := t.Options["rate"]
	if !ok {
		return Rate{}, 0, false
	}
	r, per, err := ParseTableRate(text)
	if burst, e := strconv.ParseFloat(t.Options["burst"], 64); e == nil && err == nil {
		r, err = r.WithBurst(burst)
	}
	return r, per, err == nil
}
