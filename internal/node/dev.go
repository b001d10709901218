package node

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"laaster/internal/kit/run"
)

// devEvery is how often the folder is looked at for saved files. What looks the same twice is taken for saved: editors write in steps.
const devEvery = 100 * time.Millisecond

// DevEvent is what happened to the app folder of a node in development: pages show it, and the terminal.
type DevEvent struct {
	Kind string `json:"kind"` // reload: a page's file changed; deployed: app.sql did and is running; problem: something did and is not used
	Text string `json:"text,omitempty"`
	Plan *Plan  `json:"plan,omitempty"`
}

// The kinds of DevEvent.
const (
	devReload   = "reload"
	devDeployed = "deployed"
	devProblem  = "problem"
	devFine     = "fine" // for pages alone: there is no problem
)

// dev follows the app folder and tells pages what happens.
type dev struct {
	n    *Node
	dir  string
	say  func(DevEvent)
	gone context.Context // ends with the development
	mu   struct {
		sync.Mutex
		source    string // what is wrong with app.sql now
		settings  string // what is to be said about laaster.yaml now
		reloads   int
		listeners map[chan struct{}]struct{} // told of each change of these
	}
}

// Develop deploys app.sql whenever it is saved and has pages reload when theirs are, until ctx ends. say is told each event, on one goroutine.
func (n *Node) Develop(ctx context.Context, clock run.Clock, say func(DevEvent)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d := &dev{n: n, dir: n.opt.Dir, say: say, gone: ctx}
	d.mu.listeners = map[chan struct{}]struct{}{}
	n.dev.Store(d)
	defer n.dev.Store(nil)
	seed := maphash.MakeSeed()
	used := d.look(seed)
	used.sql = maphash.String(seed, running(n.program.Load())) // it may have been saved since the start
	start := used
	for last := used; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-clock.After(devEvery):
		}
		now := d.look(seed)
		if stable := now == last; !stable || now == used {
			last = now
			continue
		}
		was := used
		used = now
		if now.sql != was.sql {
			d.deploy(ctx)
		}
		if now.settings != was.settings {
			d.settings(now.settings != start.settings)
		}
		if now.public != was.public {
			d.tell(DevEvent{Kind: devReload, Text: "public/ has changed: pages reload"}, func() { d.mu.reloads++ })
		}
	}
}

// saved is what the parts of an app folder are now, as hashes.
type saved struct{ sql, settings, public uint64 }

func (d *dev) look(seed maphash.Seed) saved {
	content := func(name string) uint64 {
		b, err := os.ReadFile(filepath.Join(d.dir, name))
		if err != nil {
			return 0
		}
		return maphash.Bytes(seed, b)
	}
	var h maphash.Hash
	h.SetSeed(seed)
	files := 0
	_ = filepath.WalkDir(filepath.Join(d.dir, "public"), func(path string, e fs.DirEntry, err error) error { // a folder that is being changed is looked at again
		if err != nil || files > 10_000 {
			return fs.SkipAll
		}
		files++
		if info, err := e.Info(); err == nil && !e.IsDir() {
			fmt.Fprintln(&h, path, info.ModTime().UnixNano(), info.Size())
		}
		return nil
	})
	return saved{sql: maphash.String(seed, onDisk(d.dir)), settings: content("laaster.yaml"), public: h.Sum64()}
}

// deploy tries the app.sql that was saved.
func (d *dev) deploy(ctx context.Context) {
	file, src, err := readApp(d.dir)
	e := DevEvent{Kind: devProblem}
	if err == nil {
		e.Plan, err = d.n.ForceDeploy(ctx, filepath.Base(file), src, nil)
	}
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		e.Text = err.Error()
	case e.Plan.Verdict == verdictRefused:
		e.Text = e.Plan.Text()
	default:
		e.Kind, e.Text = devDeployed, e.Plan.Text()
	}
	d.tell(e, func() {
		d.mu.source = ""
		if e.Kind == devProblem {
			d.mu.source = e.Text
		}
	})
}

// settings says what is to be said when laaster.yaml was saved.
func (d *dev) settings(differ bool) {
	e := DevEvent{Kind: devDeployed, Text: "laaster.yaml is as it was at the start again"}
	if differ {
		e = DevEvent{Kind: devProblem, Text: "laaster.yaml has changed: settings are read at the start, so restart to use them"}
	}
	d.tell(e, func() {
		d.mu.settings = ""
		if differ {
			d.mu.settings = e.Text
		}
	})
}

// tell has change update what pages see, tells these, and then the terminal.
func (d *dev) tell(e DevEvent, change func()) {
	d.mu.Lock()
	change()
	for ch := range d.mu.listeners {
		select {
		case ch <- struct{}{}:
		default: // it has not looked yet
		}
	}
	d.mu.Unlock()
	d.say(e)
}

// now returns what pages see: how often they had to reload, and what is wrong.
func (d *dev) now() (reloads int, problem string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.reloads, strings.TrimSpace(d.mu.source + "\n\n" + d.mu.settings)
}

// listen returns a channel that hears of changes until leave is called.
func (d *dev) listen() (changed <-chan struct{}, leave func()) {
	ch := make(chan struct{}, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.listeners[ch] = struct{}{}
	return ch, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.mu.listeners, ch)
	}
}

// serveDev is the event stream that pages listen to. It begins with what is wrong now, or that nothing is.
func (n *Node) serveDev(w http.ResponseWriter, q *http.Request) {
	d := n.dev.Load()
	if d == nil {
		n.problems.answer(w, q, notHere(q))
		return
	}
	changed, leave := d.listen()
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{})  // a browser that only listens is well
	_ = out.SetWriteDeadline(time.Time{}) // one that is gone ends the request
	reloads, _ := d.now()
	told := "\x00" // nothing yet
	for {
		now, problem := d.now()
		var e DevEvent
		switch {
		case now != reloads:
			e, reloads = DevEvent{Kind: devReload}, now
		case problem == told:
			select {
			case <-q.Context().Done():
				return
			case <-d.gone.Done():
				return
			case <-changed:
			}
			continue
		case problem != "":
			e, told = DevEvent{Kind: devProblem, Text: problem}, problem
		default:
			e, told = DevEvent{Kind: devFine}, problem
		}
		text, err := json.Marshal(e)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", e.Kind, text)
		if err := out.Flush(); err != nil {
			return
		}
	}
}
