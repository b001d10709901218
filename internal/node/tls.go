package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"laaster/app"
)

// lookAtFiles is how often the files of the settings' tls are read, to find new ones.
const lookAtFiles = 2 * time.Second

// maxPEM bounds a file of certificates or keys.
const maxPEM = 1 << 20

// certificates are the listeners' certificate and the authorities of the admin listener's clients, as the files were when they last belonged together. A
// handshake takes what is current; connections that are open keep what they began with.
type certificates struct {
	dir      string
	settings app.TLS
	now      atomic.Pointer[keyPair]
}

// keyPair is the files' contents and what is made of them.
type keyPair struct {
	files         [3][]byte // certificate, key, authorities
	public, admin *tls.Config
	name          string // the certificate's first
	expires       time.Time
	loose         bool // others than the owner may read the key
}

// openCertificates reads the files. nil without an error: the settings name none.
func openCertificates(dir string, settings app.TLS) (*certificates, error) {
	if !settings.On() {
		return nil, nil
	}
	c := &certificates{dir: dir, settings: settings}
	_, err := c.load()
	return c, err
}

// load reads the files and takes them, if they differ from what is current and belong together. It reports whether it did.
func (c *certificates) load() (changed bool, err error) {
	var k keyPair
	for i, name := range []string{c.settings.Cert, c.settings.Key, c.settings.ClientCA} {
		if name == "" {
			continue
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(c.dir, name)
		}
		info, err := os.Stat(name)
		if err == nil && info.Size() > maxPEM {
			err = fmt.Errorf("%s is larger than %d bytes", name, maxPEM)
		}
		if err == nil {
			k.files[i], err = os.ReadFile(name)
		}
		if err != nil {
			return false, fmt.Errorf("tls: %w", err)
		}
		k.loose = k.loose || i == 1 && info.Mode().Perm()&0o007 != 0
	}
	if was := c.now.Load(); was != nil && bytes.Equal(k.files[0], was.files[0]) && bytes.Equal(k.files[1], was.files[1]) && bytes.Equal(k.files[2], was.files[2]) {
		return false, nil
	}
	if err := k.configure(&c.settings); err != nil {
		return false, fmt.Errorf("tls: %w", err)
	}
	c.now.Store(&k)
	return true, nil
}

// configure makes the listeners' configurations of the files. It is TLS 1.3 alone: its cipher suites and curves are Go's.
func (k *keyPair) configure(s *app.TLS) error {
	pair, err := tls.X509KeyPair(k.files[0], k.files[1])
	if err != nil {
		return fmt.Errorf("%s and %s: %w", s.Cert, s.Key, err)
	}
	k.expires = pair.Leaf.NotAfter
	if names := certificateNames(pair.Leaf); len(names) > 0 {
		k.name = names[0]
	}
	k.public = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if s.ClientCA == "" {
		return nil
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(k.files[2]) {
		return fmt.Errorf("%s has no certificate", s.ClientCA)
	}
	allowed := slices.Clone(s.Clients)
	k.admin = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities,
		SessionTicketsDisabled: true, // each connection shows its certificate anew, so that new authorities hold for all
		VerifyConnection: func(state tls.ConnectionState) error {
			if clientName(state.PeerCertificates, allowed) == "" {
				return errors.New("the client's certificate has no URI, DNS or e-mail name that may act here")
			}
			return nil
		}}
	return nil
}

// certificateNames lists the names of a certificate by which callers are known: URI, DNS, e-mail. The subject's text is none: what it says depends on who
// reads it.
func certificateNames(c *x509.Certificate) []string {
	var names []string
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	return append(append(names, c.DNSNames...), c.EmailAddresses...)
}

// clientName returns the name of a client's certificate: the first that is allowed, the first at all when allowed is empty; "" when there is none.
func clientName(chain []*x509.Certificate, allowed []string) string {
	if len(chain) == 0 {
		return ""
	}
	for _, name := range certificateNames(chain[0]) {
		if len(allowed) == 0 || slices.Contains(allowed, name) {
			return name
		}
	}
	return ""
}

// publicConfig and adminConfig are the configurations of the listeners: each handshake gets the current one.
func (c *certificates) publicConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load().public, nil }}
}

func (c *certificates) adminConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load().admin, nil }}
}

// certificateLoop takes new certificate files as they come. Files that cannot be used leave the old certificate in service; /readyz says so.
func (n *Node) certificateLoop(ctx context.Context) error {
	c, told := n.certificates, ""
	for {
		n.judgeCertificate(c.now.Load())
		select {
		case <-ctx.Done():
			return nil
		case <-n.opt.Clock.After(lookAtFiles):
		}
		changed, err := c.load()
		switch {
		case err != nil && err.Error() != told:
			told = err.Error()
			n.opt.Logger.Error("new certificate files cannot be used; the old certificate stays in service", "error", told, "expires", c.now.Load().expires)
			n.degrade("tls", told)
		case err == nil:
			if told != "" {
				n.restore("tls")
			}
			told = ""
		}
		if changed {
			k := c.now.Load()
			n.opt.Logger.Info("new certificate", "name", k.name, "expires", k.expires)
		}
	}
}

// judgeCertificate says in /readyz when the certificate is past its time.
func (n *Node) judgeCertificate(k *keyPair) {
	if n.opt.Clock.Now().Before(k.expires) {
		n.restore("certificate")
		return
	}
	n.degrade("certificate", "the certificate of "+k.name+" expired at "+k.expires.UTC().Format(time.RFC3339))
}

// openTLS reads the certificate files of the settings, and says what is careless about them.
func (n *Node) openTLS() (err error) {
	if n.certificates, err = openCertificates(n.opt.Dir, n.opt.Settings.TLS); err != nil || n.certificates == nil {
		return err
	}
	k := n.certificates.now.Load()
	if k.loose {
		n.opt.Logger.Warn("every user of this system may read the private key", "file", n.opt.Settings.TLS.Key)
	}
	n.metrics.Gauge("laaster_certificate_expires_seconds", "How long the listeners' certificate is valid yet; negative: it was.", func() float64 {
		return n.certificates.now.Load().expires.Sub(n.opt.Clock.Now()).Seconds()
	})
	return nil
}

// http2 bounds what one HTTP/2 connection may hold.
func http2(stall time.Duration) *http.HTTP2Config {
	return &http.HTTP2Config{MaxConcurrentStreams: 100, MaxDecoderHeaderTableSize: 4 << 10, MaxEncoderHeaderTableSize: 4 << 10, MaxReadFrameSize: 16 << 10,
		MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10,
		SendPingTimeout: 25 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: stall}
}

// callerKey is the context key of the name of an admin listener's client.
type callerKey struct{}

// caller returns who acts on the admin listener: the name of the client's certificate, or [operator] where none is asked for.
func caller(ctx context.Context) string {
	if name, _ := ctx.Value(callerKey{}).(string); name != "" {
		return name
	}
	return operator
}

// identify puts the name of the client's certificate into the request's context.
func (n *Node) identify(q *http.Request) *http.Request {
	if q.TLS == nil {
		return q
	}
	return q.WithContext(context.WithValue(q.Context(), callerKey{}, clientName(q.TLS.PeerCertificates, n.opt.Settings.TLS.Clients)))
}
