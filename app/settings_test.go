package app

import (
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	for _, c := range []struct{ name, src, want string }{
		{"empty", "", ""},
		{"all sorts", "listen: 127.0.0.1:0\nlimits:\n  row: 64KiB\n  pending_wait: 100ms\norigins: ['https://a.example']\n", ""},
		{"unknown key", "listen: 127.0.0.1:0\nlisten_on: x\n", "laaster.yaml:2:1: unknown key \"listen_on\""},
		{"unknown nested key", "limits:\n  rows: 1\n", "laaster.yaml:2:3: unknown key \"rows\""},
		{"wrong type", "limits: 3\n", "laaster.yaml:1:9: "},
		{"bad size", "limits:\n  row: lots\n", "laaster.yaml:2:8: \"lots\" is not a size"},
		{"bad duration", "drain: soon\n", "laaster.yaml:1:8: \"soon\" is not a duration"},
		{"out of range", "limits:\n  row: 2MiB\n", "laaster.yaml:2:8: limits.row: 2MiB is out of range\n  hint: from 1KiB to 512KiB"},
		{"two at once", "limits:\n  row: 2MiB\n  ring: 1B\n", "laaster.yaml:3:9: limits.ring: 1B is out of range"},
		{"open address", "listen: 0.0.0.0:8080\n", "laaster.yaml:1:9: listen: 0.0.0.0:8080 is not a loopback address"},
		{"open address in words", "listen: 0.0.0.0:8080\nauth: anonymous\nplain_http: true\n", ""},
		{"open admin", "admin: 0.0.0.0:8081\nauth: anonymous\nplain_http: true\n", "admin: 0.0.0.0:8081 is not a loopback address"},
		{"backbone", "backbone: kafka://x\n", "laaster.yaml:1:11: backbone: \"kafka://x\" is not known"},
		{"not yaml", "listen: [\n", "laaster.yaml:1:9: "},
		{"origin", "origins: ['*']\n", "origins[0]: \"*\" is not an origin"},
	} {
		_, err := ParseSettings("laaster.yaml", []byte(c.src))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestSettingsErrorsAtOnce(t *testing.T) {
	_, err := ParseSettings("laaster.yaml", []byte("listen_on: 1\ndrain: 20s\nlimits:\n  row: 3GiB\n  ring: x\n  body: y\n"))
	for _, want := range []string{"1:1: unknown key", "2:8: drain: 20s is out of range", "4:8: limits.row: 3GiB is out of range", `5:9: "x" is not a size`, `6:9: "y" is not a size`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add("listen: 127.0.0.1:0\nlimits: {row: 1KiB}\n")
	f.Fuzz(func(t *testing.T, src string) {
		_, _ = ParseSettings("laaster.yaml", []byte(src))
	})
}
