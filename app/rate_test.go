package app

import (
	"strings"
	"testing"
	"time"
)

func TestParseRate(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"20/s", "20/s burst 40"},
		{" 20/s burst 5 ", "20/s burst 5"},
		{"0.5/s", "0.5/s burst 1"},
		{"100/min", "100/min burst 100"},
		{"3/h burst 1", "3/h burst 1"},
		{"10MiB/s", "10485760/s burst 20971520"},
		{"1 KiB/s burst 1 MiB", "1024/s burst 1048576"},
		{"", ""},
		{"20", "is not a rate"},
		{"20/day", "is not a rate"},
		{"-1/s", "is not a rate"},
		{"0/s", "is not a rate"},
		{"1e9/s", "is not a rate"},
		{"NaN/s", "is not a rate"},
		{"0x10/s", "is not a rate"},
		{"1/s burst many", "is not a burst"},
		{"20/s burst 0", "a burst is from 1"},
		{"1/h burst 25", "more than a day"},
		{"9999999999999/s", "is not a rate"},
	} {
		r, err := ParseRate(c.text)
		got := r.String()
		if err != nil {
			got = err.Error()
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%q: %q, not %q", c.text, got, c.want)
		}
	}
}

func TestTableRate(t *testing.T) {
	for _, c := range []struct{ rate, burst, want, whose string }{
		{"20/s per subject", "40", "20/s burst 40", "one subject"},
		{"20/s per address", "", "20/s burst 40", "one address"},
		{"5/min", "", "5/min burst 5", "all callers together"},
		{"5/min", "0", "", ""},
		{"5/min per user", "", "", ""},
	} {
		table := &Table{Options: map[string]string{"rate": c.rate}}
		if c.burst != "" {
			table.Options["burst"] = c.burst
		}
		r, per, ok := table.Rate()
		if ok != (c.want != "") || ok && (r.String() != c.want || per.Whose() != c.whose) {
			t.Errorf("%q, %q: %s of %s, %v", c.rate, c.burst, r, per.Whose(), ok)
		}
	}
	if _, _, ok := (&Table{}).Rate(); ok {
		t.Error("a table without the option has a rate")
	}
}

func TestRateSettings(t *testing.T) {
	s, err := ParseSettings("laaster.yaml", []byte(`limits:
  rates:
    exempt: [10.0.0.0/8, "2001:db8::1"]
    keys: 5000
    address: {messages: 100/s, bytes: 1MiB/s burst 8MiB, open: 20, sockets: 50/s}
    table: {messages: 1000/s}
  abuse: {slow: 0, cut: 10, cut_for: 5m}
`))
	if err != nil {
		t.Fatal(err)
	}
	r := s.Limits.Rates
	if r.Address.Messages.String() != "100/s burst 200" || r.Address.Bytes.Burst != 8<<20 || r.Address.Open != 20 || r.Address.Sockets.Count != 50 || r.Table.Messages.Count != 1000 || !r.App.Query.None() || r.Keys != 5000 {
		t.Errorf("%+v", r)
	}
	if a := s.Limits.Abuse; a.Slow != 0 || a.Cut != 10 || time.Duration(a.CutFor) != 5*time.Minute {
		t.Errorf("%+v", a)
	}
	if p := s.Exempted(); len(p) != 2 || p[0].String() != "10.0.0.0/8" || p[1].String() != "2001:db8::/64" {
		t.Errorf("exempt %v", p)
	}
	for src, want := range map[string]string{"": "[127.0.0.0/8 ::/64]", "plain_http: true": "[0.0.0.0/0 ::/0]", "limits: {rates: {exempt: []}}": "[]"} {
		s, err := ParseSettings("laaster.yaml", []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, p := range s.Exempted() {
			all = append(all, p.String())
		}
		if got := "[" + strings.Join(all, " ") + "]"; got != want {
			t.Errorf("%q: exempt %s, not %s", src, got, want)
		}
	}
	for src, want := range map[string]string{
		"limits:\n  rates:\n    address:\n      messages: often\n":        `4:17: "often" is not a rate`,
		"limits:\n  rates:\n    address:\n      message: 1/s\n":           `4:7: unknown key "message"`,
		"limits:\n  rates:\n    exempt: [here]\n":                         `limits.rates.exempt[0]: "here" is neither an address nor a prefix`,
		"limits:\n  rates:\n    app: {open: 3}\n":                         `limits.rates.app.open: 3 is out of range`,
		"limits:\n  rates:\n    app: {sockets: 3/s}\n":                    `limits.rates.app.sockets: there is no such rate`,
		"limits:\n  rates:\n    principal: {sockets: 3/s}\n":              `limits.rates.principal.sockets: there is no such rate`,
		"limits:\n  rates:\n    keys: 10\n":                               `limits.rates.keys: 10 is out of range`,
		"limits:\n  abuse: {slow: 20, cut: 10}\n":                         `limits.abuse.cut: 10 is less than limits.abuse.slow`,
		"limits:\n  abuse: {cut_for: 10ms}\n":                             `limits.abuse.cut_for: 10ms is out of range`,
		"limits:\n  rates:\n    principal:\n      bytes: 1/h burst 100\n": `more than a day`,
	} {
		if _, err := ParseSettings("laaster.yaml", []byte(src)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n%v\nnot %q", src, err, want)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"20/s", "1KiB/min burst 7", "20/s per subject", "1/h burst 24", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRate(text)
		if err == nil && !r.None() {
			again, err := ParseRate(r.String())
			if err != nil || again != r {
				t.Fatalf("%q is %s, which is %s (%v)", text, r, again, err)
			}
			if r.Burst < 1 || r.Burst/r.Count*float64(r.Per) > float64(24*time.Hour) {
				t.Fatalf("%q is %+v", text, r)
			}
		}
		_, _, _ = ParseTableRate(text)
		_, _ = ParseExempt(text)
	})
}
