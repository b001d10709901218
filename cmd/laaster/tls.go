package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
)

// The files that commands use towards a server with TLS. They are named by the environment, since they belong to who calls and not to an app.
const (
	caVariable   = "LAASTER_CA"   // authorities to trust instead of the system's, PEM
	certVariable = "LAASTER_CERT" // certificate to show to an admin listener, PEM
	keyVariable  = "LAASTER_KEY"  // its key, PEM
)

// clientTLS returns the configuration that the environment asks for, nil when it asks for none.
func clientTLS() (*tls.Config, error) {
	ca, cert, key := os.Getenv(caVariable), os.Getenv(certVariable), os.Getenv(keyVariable)
	if ca == "" && cert == "" && key == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS13}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", caVariable, err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: %s has no certificate", caVariable, ca)
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", certVariable, keyVariable, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// do sends a request with the environment's certificates.
func do(q *http.Request) (*http.Response, error) {
	conf, err := clientTLS()
	if err != nil {
		return nil, err
	}
	if conf == nil {
		return http.DefaultClient.Do(q)
	}
	t := http.DefaultTransport.(*http.Transport).Clone() // it is one
	t.TLSClientConfig, t.ForceAttemptHTTP2, t.DisableKeepAlives = conf, true, true
	return (&http.Client{Transport: t}).Do(q)
}

// scheme is how a listener's address begins.
func scheme(encrypted bool) string {
	if encrypted {
		return "https://"
	}
	return "http://"
}
