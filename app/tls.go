package app

import (
	"strconv"
	"strings"
	"time"
)

// TLS says how the listeners are encrypted. Files are PEM, relative to the app folder, and read again when their contents change.
type TLS struct {
	Cert     string   `yaml:"cert"`      // certificate of both listeners, followed by its chain. Default "": no TLS
	Key      string   `yaml:"key"`       // its private key
	ClientCA string   `yaml:"client_ca"` // authorities: the admin listener serves only clients with a certificate of theirs. Default "": plain, loopback only
	Clients  []string `yaml:"clients"`   // URI, DNS or e-mail names of the certificates that it serves. Default: every one of these authorities
	HSTS     Duration `yaml:"hsts"`      // how long browsers are to come back by HTTPS only; 0s: they are not told. Default 8760h, up to 17520h
}

// On reports whether the public listener speaks TLS.
func (t *TLS) On() bool { return t.Cert != "" && t.Key != "" }

// Admin reports whether the admin listener speaks TLS and asks its clients for certificates.
func (t *TLS) Admin() bool { return t.On() && t.ClientCA != "" }

func (t *TLS) bounds() []bound {
	out := []bound{{key: "tls.cert"}, {key: "tls.key"}, {key: "tls.client_ca"}, {key: "tls.clients"}, duration("tls.hsts", t.HSTS, 0, 2*365*24*time.Hour)}
	const both = "name both files, of one certificate: tls: {cert: server.pem, key: server.key}"
	switch {
	case t.Cert == "" && t.Key != "":
		out[0].problem, out[0].hint = "is missing, and there is tls.key", both
	case t.Cert != "" && t.Key == "":
		out[1].problem, out[1].hint = "is missing, and there is tls.cert", both
	}
	if t.ClientCA != "" && !t.On() {
		out[2].problem, out[2].hint = "needs tls.cert and tls.key", "a listener that asks for certificates has one itself"
	}
	if len(t.Clients) > 0 && t.ClientCA == "" {
		out[3].problem, out[3].hint = "needs tls.client_ca", "names count for nothing without the authorities that vouch for them"
	}
	for i, name := range t.Clients {
		if strings.TrimSpace(name) == "" {
			out = append(out, bound{"tls.clients[" + strconv.Itoa(i) + "]", "is empty", "write a URI, DNS or e-mail name of a certificate, such as spiffe://example.org/operator"})
		}
	}
	return out
}
