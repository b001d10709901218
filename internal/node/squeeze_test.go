package node

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/wire"
)

// TestSqueeze: pages travel compressed to who takes that, and are the same bytes for everybody.
func TestSqueeze(t *testing.T) {
	dir := t.TempDir()
	page := []byte("body { color: red }\n" + strings.Repeat("p { margin: 0 }\n", 200))
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.css", page)
	write("small.css", page[:100])
	write("a.png", page)
	s := &static{dir: dir, dev: func() bool { return false }, problem: func(w http.ResponseWriter, _ *http.Request, p *wire.Problem) { w.WriteHeader(p.Status) }}
	get := func(name string, headers ...string) *httptest.ResponseRecorder {
		q := httptest.NewRequest(http.MethodGet, "/"+name, nil)
		for i := 0; i < len(headers); i += 2 {
			q.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, q)
		return w
	}
	unpack := func(b []byte) []byte {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		return plain
	}
	for _, c := range []struct {
		name, accept string
		squeezed     bool
	}{
		{"a.css", "gzip, br", true}, {"a.css", "br;q=1.0, GZIP;q=0.5", true}, {"laaster.js", "gzip", true},
		{"a.css", "", false}, {"a.css", "gzip;q=0", false}, {"a.css", "gzip; q=x", false}, {"a.css", "identity", false}, {"a.png", "gzip", false}, {"small.css", "gzip", false},
	} {
		w, plain := get(c.name, "Accept-Encoding", c.accept), get(c.name).Body.Bytes()
		body := w.Body.Bytes()
		if squeezed := w.Header().Get("Content-Encoding") == "gzip"; squeezed != c.squeezed || w.Code != 200 {
			t.Errorf("%s for %q: status %d, compressed: %t", c.name, c.accept, w.Code, squeezed)
			continue
		}
		if c.squeezed {
			if len(body) >= len(plain) || w.Header().Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s: %d bytes of %d, Vary %q", c.name, len(body), len(plain), w.Header().Get("Vary"))
			}
			body = unpack(body)
		}
		if !bytes.Equal(body, plain) || len(plain) == 0 {
			t.Errorf("%s for %q: other bytes than for everybody", c.name, c.accept)
		}
	}
	if w := get("a.css", "Accept-Encoding", "gzip", "Range", "bytes=0-9"); w.Code != http.StatusPartialContent || w.Body.String() != string(page[:10]) {
		t.Errorf("a part: %d, %q", w.Code, w.Body)
	}
	modified := get("a.css", "Accept-Encoding", "gzip").Header().Get("Last-Modified")
	if w := get("a.css", "Accept-Encoding", "gzip", "If-Modified-Since", modified); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("not modified: %d, %d bytes", w.Code, w.Body.Len())
	}
	write("a.css", append(page, " b { top: 0 }"...))
	if w := get("a.css", "Accept-Encoding", "gzip"); !bytes.HasSuffix(unpack(w.Body.Bytes()), []byte("top: 0 }")) {
		t.Error("an edited page is not served anew")
	}
	if len(s.small.mu.files) > 3 || s.small.mu.bytes > squeezeTotal {
		t.Errorf("%d files, %d bytes are kept", len(s.small.mu.files), s.small.mu.bytes)
	}
}
