package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// Signer signs tokens: for development and tests, and for who has no identity provider.
type Signer struct {
	kid, alg string
	key      crypto.Signer // nil with a secret
	secret   []byte
}

// NewSigner makes a key of an algorithm: EdDSA, ES256, RS256 or HS256.
func NewSigner(alg string) (*Signer, error) {
	var err error
	s := &Signer{alg: alg}
	switch alg {
	case algEdDSA:
		_, s.key, err = generateEd()
	case algES256:
		s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case algRS256:
		s.key, err = rsa.GenerateKey(rand.Reader, 2048)
	case algHS256:
		return SecretSigner([]byte(rand.Text() + rand.Text()))
	default:
		return nil, fmt.Errorf("algorithm %q is not spoken: EdDSA, ES256, RS256 or HS256", alg)
	}
	if err != nil {
		return nil, err
	}
	return s, s.name()
}

func generateEd() (ed25519.PublicKey, crypto.Signer, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	return pub, key, err
}

// SecretSigner returns the signer of a secret.
func SecretSigner(secret []byte) (*Signer, error) {
	if len(secret) < minSecret {
		return nil, fmt.Errorf("a secret has at least %d bytes", minSecret)
	}
	return &Signer{alg: algHS256, secret: secret}, nil
}

// ParseSigner reads what Signer.Private wrote, or the PKCS #8 PEM of another tool.
func ParseSigner(text []byte) (*Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("it is not a private key in PEM (PKCS #8)")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	s := &Signer{}
	switch k := key.(type) {
	case ed25519.PrivateKey:
		s.alg, s.key = algEdDSA, k
	case *ecdsa.PrivateKey:
		if k.Curve != elliptic.P256() {
			return nil, errors.New("its curve is not P-256")
		}
		s.alg, s.key = algES256, k
	case *rsa.PrivateKey:
		s.alg, s.key = algRS256, k
	default:
		return nil, errors.New("it is a key of another kind than Ed25519, P-256 and RSA")
	}
	return s, s.name()
}

// name gives the key its kid: the first half of the digest of the public key.
func (s *Signer) name() error {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(der)
	s.kid = hex.EncodeToString(sum[:8])
	return nil
}

// Private returns the private key as PEM; a secret as it is.
func (s *Signer) Private() ([]byte, error) {
	if s.key == nil {
		return append([]byte(nil), s.secret...), nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// KeyID returns the kid; a secret has none.
func (s *Signer) KeyID() string { return s.kid }

// Algorithm returns the alg of the tokens.
func (s *Signer) Algorithm() string { return s.alg }

// PublicKey returns the public key as a JSON Web Key; nil for a secret.
func (s *Signer) PublicKey() map[string]string {
	b64 := base64.RawURLEncoding.EncodeToString
	k := map[string]string{"kid": s.kid, "alg": s.alg, "use": "sig"}
	if s.key == nil {
		return nil
	}
	switch pub := s.key.Public().(type) {
	case ed25519.PublicKey:
		k["kty"], k["crv"], k["x"] = "OKP", "Ed25519", b64(pub)
	case *ecdsa.PublicKey:
		point, err := pub.Bytes() // of P-256: 4, x, y
		if err != nil {
			return nil
		}
		k["kty"], k["crv"], k["x"], k["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	case *rsa.PublicKey:
		k["kty"], k["n"], k["e"] = "RSA", b64(pub.N.Bytes()), b64(big.NewInt(int64(pub.E)).Bytes())
	}
	return k
}

// KeySet returns a JSON Web Key Set of signers' public keys, before the keys that an earlier set has.
func KeySet(before []byte, signers ...*Signer) ([]byte, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if len(before) > 0 {
		if _, err := parseKeySet(before); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(before, &set); err != nil {
			return nil, err
		}
	}
	keys := []json.RawMessage{}
	for _, s := range signers {
		if k := s.PublicKey(); k != nil {
			text, err := json.Marshal(k)
			if err != nil {
				return nil, err
			}
			keys = append(keys, text)
		}
	}
	set.Keys = append(keys, set.Keys...)
	text, err := json.MarshalIndent(&set, "", "  ")
	return append(text, '\n'), err
}

// Sign returns a token with these claims.
func (s *Signer) Sign(claims map[string]any) (string, error) {
	header := map[string]any{"typ": "JWT", "alg": s.alg}
	if s.kid != "" {
		header["kid"] = s.kid
	}
	return s.SignWith(header, claims)
}

// SignWith is Sign with a header of the caller's, whatever it says.
func (s *Signer) SignWith(header, claims map[string]any) (string, error) {
	h, err1 := json.Marshal(header)
	c, err2 := json.Marshal(claims)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	return s.signText(h, c)
}

func (s *Signer) signText(header, claims []byte) (string, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64(header) + "." + b64(claims)
	signature, err := s.signature([]byte(text))
	return text + "." + b64(signature), err
}

func (s *Signer) signature(text []byte) ([]byte, error) {
	sum := sha256.Sum256(text)
	switch key := s.key.(type) {
	case nil:
		mac := hmac.New(sha256.New, s.secret)
		mac.Write(text)
		return mac.Sum(nil), nil
	case *ecdsa.PrivateKey:
		r, t, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			return nil, err
		}
		out := make([]byte, 64)
		r.FillBytes(out[:32])
		t.FillBytes(out[32:])
		return out, nil
	case ed25519.PrivateKey:
		return ed25519.Sign(key, text), nil
	}
	return s.key.Sign(rand.Reader, sum[:], crypto.SHA256)
}
