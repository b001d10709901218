package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"laaster/app"
)

// fetchTime is how long a fetch may take as a whole.
const fetchTime = 10 * time.Second

// fileKeys are keys in a file.
type fileKeys string

func (f fileKeys) every() time.Duration { return refreshFile }

func (f fileKeys) least() time.Duration { return leastFile }

func (f fileKeys) fetch(context.Context) ([]byte, error) {
	file, err := os.Open(string(f))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return bounded(file)
}

// bounded reads what a source says, and no more than a key set may have.
func bounded(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxKeySet+1))
	if err == nil && len(text) > maxKeySet {
		err = fmt.Errorf("it has more than %d bytes", maxKeySet)
	}
	return text, err
}

// urlKeys are keys at a URL of the settings, or at the one that the issuer's configuration names.
type urlKeys struct {
	client   *http.Client
	url      string // empty: it is discovered
	issuer   string
	loopback bool // the settings name this machine
}

func (k *urlKeys) every() time.Duration { return refreshURL }

func (k *urlKeys) least() time.Duration { return leastURL }

func (k *urlKeys) fetch(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	at := k.url
	if at == "" {
		var err error
		if at, err = k.discover(ctx); err != nil {
			return nil, err
		}
	}
	return k.get(ctx, at)
}

// discover asks the issuer where his keys are. He must call himself what the settings call him.
func (k *urlKeys) discover(ctx context.Context) (string, error) {
	text, err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	o, err := readObject(text)
	if err != nil {
		return "", fmt.Errorf("the issuer's configuration is not a JSON object: %w", err)
	}
	if name, _ := o.text("issuer"); name != k.issuer {
		return "", errors.New("the issuer's configuration is of another issuer")
	}
	at, _ := o.text("jwks_uri")
	own, errOwn := url.Parse(k.issuer)
	u, err := url.Parse(at)
	if err = errors.Join(err, errOwn); err != nil || u.Host == "" || u.User != nil {
		return "", errors.New("the issuer's configuration has no jwks_uri")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !k.loopback || !app.LoopbackHost(u.Hostname())) {
		return "", errors.New("the issuer's jwks_uri is not https")
	}
	if port := u.Port(); port != "" && port != "443" && port != own.Port() {
		return "", errors.New("the issuer's jwks_uri has a port that is neither 443 nor the issuer's")
	}
	return at, nil
}

func (k *urlKeys) get(ctx context.Context, at string) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Accept", "application/json")
	r, err := k.client.Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", q.URL.Redacted(), r.Status) // also a redirect: none is followed
	}
	return bounded(r.Body)
}

// newURLKeys returns the keys at a URL of the settings; with discover it is the issuer's own.
func newURLKeys(at string, discover, private bool) (*urlKeys, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	k := &urlKeys{url: at, issuer: at, loopback: app.LoopbackHost(u.Hostname())}
	if discover {
		k.url = ""
	}
	k.client = guardedClient(guard{loopback: k.loopback, private: private})
	return k, nil
}

// guard says which addresses a name may stand for.
type guard struct{ loopback, private bool }

// guardedClient returns a client that connects only to addresses that guard allows, as they were resolved, follows no redirect and uses no proxy.
func guardedClient(g guard) *http.Client {
	dialer := &net.Dialer{Timeout: fetchTime, Control: func(_, address string, _ syscall.RawConn) error { return g.control(address) }}
	return &http.Client{
		Timeout:       fetchTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{Proxy: nil, DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: fetchTime, ResponseHeaderTimeout: fetchTime,
			MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true},
	}
}

func (g guard) control(address string) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if a := to.Addr().WithZone("").Unmap(); !g.allows(a) {
		return fmt.Errorf("the name stands for %s, which this server does not connect to for keys", a)
	}
	return nil
}

func (g guard) allows(a netip.Addr) bool {
	switch {
	case a.IsLoopback():
		return g.loopback
	case !a.IsGlobalUnicast(): // unspecified, multicast, link-local with the clouds' metadata, broadcast
		return false
	case a.IsPrivate() || within(a, "100.64.0.0/10"):
		return g.private
	}
	// What has another meaning than a machine on the internet, or an address inside that could be any of the above.
	return !within(a, "0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:db8::/32", "2002::/16", "fec0::/10")
}

func within(a netip.Addr, prefixes ...string) bool {
	for _, p := range prefixes {
		if netip.MustParsePrefix(p).Contains(a) {
			return true
		}
	}
	return false
}
