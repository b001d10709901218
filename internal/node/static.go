package node

import (
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"laaster/internal/node/devpage"
	"laaster/internal/wire"
	sdkjs "laaster/sdk/js"
)

// contentPolicy is the Content-Security-Policy of an app's own pages: their own scripts and styles, their own server, nothing
// inline and no other host.
const contentPolicy = "default-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"

// static serves the app's public/ folder and the SDK. Folders are not listed, names that begin with a dot are not served, and
// links are not followed out of the folder.
type static struct {
	dir     string // opened for each request, so that pages can be added to a running app
	problem func(http.ResponseWriter, *http.Request, *wire.Problem)
	dev     func() bool // pages get the script of development
	small   squeezer
}

// ServeHTTP implements http.Handler.
func (s *static) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		p := wire.NewProblem(wire.InvalidRequest, q.Method+" is not answered here")
		p.Status = http.StatusMethodNotAllowed
		s.problem(w, q, p)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+q.URL.Path), "/")
	if name == "" || strings.HasSuffix(q.URL.Path, "/") {
		name = path.Join(name, "index.html")
	}
	if sdk := sdkjs.Files(); sdkFile(sdk, name) {
		s.serve(w, q, sdk, name)
		return
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		s.missing(w, q)
		return
	}
	defer root.Close()
	if hidden(name) {
		s.missing(w, q)
		return
	}
	s.serve(w, q, root.FS(), name)
}

func sdkFile(sdk fs.FS, name string) bool {
	info, err := fs.Stat(sdk, name)
	return err == nil && info.Mode().IsRegular()
}

func hidden(name string) bool {
	for _, part := range strings.Split(name, "/") {
		if strings.HasPrefix(part, ".") {
			return true
		}
	}
	return false
}

func (s *static) missing(w http.ResponseWriter, q *http.Request) {
	s.problem(w, q, wire.NewProblem(wire.NotFound, "there is nothing at "+q.URL.Path).
		WithHint("the API is under /v1/, the app's own pages come from its public folder"))
}

func (s *static) serve(w http.ResponseWriter, q *http.Request, files fs.FS, name string) {
	info, err := fs.Stat(files, name)
	if err == nil && info.IsDir() {
		if index, err := fs.Stat(files, path.Join(name, "index.html")); err == nil && index.Mode().IsRegular() {
			// With its slash the page's relative links work.
			to := url.URL{Path: "/" + name + "/", RawQuery: q.URL.RawQuery}
			http.Redirect(w, q, to.String(), http.StatusMovedPermanently)
			return
		}
	}
	if err != nil || !info.Mode().IsRegular() { // a pipe would hold the request for ever
		s.missing(w, q)
		return
	}
	w.Header().Set("Content-Security-Policy", contentPolicy)
	w.Header().Set("Cache-Control", "no-cache") // revalidate: a deploy must show at once
	if path.Ext(name) == ".html" && s.dev() {
		if page, err := fs.ReadFile(files, name); err == nil {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write(devpage.Inject(page)) // the browser may be gone
			return
		}
	}
	if s.small.serve(w, q, files, name, info) {
		return
	}
	http.ServeFileFS(w, q, files, name)
}
