package node

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of what is kept compressed: files beyond them are sent as they are.
const (
	squeezeLeast = 1 << 10  // bytes of a file that is worth it
	squeezeMost  = 2 << 20  // bytes of a file
	squeezeTotal = 16 << 20 // bytes of all compressed files together
)

// squeezer keeps the compressed forms of the app's own pages and of the SDK, so that a page that thousands load at one time is compressed once. Only static
// files go through it: they hold no secrets that their compressed length could tell. Safe for concurrent use.
type squeezer struct {
	mu struct {
		sync.Mutex
		files map[squeezedKey][]byte
		bytes int
	}
}

type squeezedKey struct {
	name     string
	modified time.Time
	size     int64
}

// serve answers with the compressed form of a file and reports whether it did: not when the client does not take it, asks for a part, or the file is not text.
func (s *squeezer) serve(w http.ResponseWriter, q *http.Request, files fs.FS, name string, info fs.FileInfo) bool {
	kind := squeezable(name)
	if kind == "" || info.Size() < squeezeLeast || info.Size() > squeezeMost {
		return false
	}
	w.Header().Add("Vary", "Accept-Encoding")
	if !takesGzip(q) || q.Header.Get("Range") != "" {
		return false
	}
	body := s.get(files, squeezedKey{name, info.ModTime(), info.Size()})
	if body == nil {
		return false
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Set("Content-Length", strconv.Itoa(len(body))) // ServeContent leaves it out of encoded answers
	http.ServeContent(w, q, name, info.ModTime(), bytes.NewReader(body))
	return true
}

func (s *squeezer) get(files fs.FS, key squeezedKey) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if body, ok := s.mu.files[key]; ok {
		return body
	}
	plain, err := fs.ReadFile(files, key.name)
	if err != nil || int64(len(plain)) != key.size { // it is being written
		return nil
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(plain) // to memory: it does not fail
	_ = z.Close()
	if s.mu.bytes+out.Len() > squeezeTotal { // mostly old forms of files that were edited
		s.mu.files, s.mu.bytes = nil, 0
	}
	if s.mu.files == nil {
		s.mu.files = map[squeezedKey][]byte{}
	}
	s.mu.files[key] = out.Bytes()
	s.mu.bytes += out.Len()
	return out.Bytes()
}

// squeezable returns the type of a text file, empty for others.
func squeezable(name string) string {
	switch path.Ext(name) {
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".json":
		return "application/json"
	}
	return ""
}

// takesGzip reads Accept-Encoding (RFC 9110, section 12.5.3).
func takesGzip(q *http.Request) bool {
	for _, item := range strings.Split(strings.Join(q.Header.Values("Accept-Encoding"), ","), ",") {
		name, params, _ := strings.Cut(item, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		weight, given := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(params), " ", ""), "q=")
		n, err := strconv.ParseFloat(weight, 64)
		return !given || err == nil && n > 0
	}
	return false
}
