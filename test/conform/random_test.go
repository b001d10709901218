package conform

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// scribe writes a scenario at random: many clients of every kind join and leave, follow queries, are cut, held and slow, while others write.
type scribe struct {
	r       *rand.Rand
	drivers []string
	lines   []string
	clients []*scribed
	n       int // names given
	id      int // votes written
}

type scribed struct {
	name string
	subs []string
	held bool
	off  bool
}

func (s *scribe) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func pick[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

// ask is a random query as words of a subscribe line.
func (s *scribe) ask() string {
	view := pick(s.r, "votes", "votes", "votes", "big", "tally", "podium", "rooms", "placed")
	q := view
	filters := map[string][]string{
		"votes":  {"points=gt.%d", "points=lte.%d", "who=eq.w%d", "who=in.(w1,w%d)", "id=gt.%d", "run=eq.r%d", "points=eq.%d&who=neq.w3"},
		"big":    {"points=gt.%d", "who=eq.w%d"},
		"tally":  {"votes=gt.%d", "who=eq.w%d"},
		"rooms":  {"size=gt.%d", "name=neq.r%d"},
		"placed": {"size=gt.%d", "points=lt.%d"},
	}
	if f := filters[view]; f != nil && s.r.IntN(3) > 0 {
		q += " filter=" + fmt.Sprintf(pick(s.r, f...), s.r.IntN(8))
	}
	part := ""
	if view == "votes" && s.r.IntN(3) == 0 {
		part = pick(s.r, "who", "points", "who,points", "run")
		q += " select=" + part
	}
	if s.r.IntN(3) == 0 {
		columns := map[string][]string{"rooms": {"size"}, "tally": {"votes", "points"}}[view]
		if columns == nil {
			columns = []string{"points", "who"}
		}
		if part != "" { // who sorts must have the column
			columns = strings.Split(part, ",")
		}
		q += " order=" + pick(s.r, columns...) + pick(s.r, "", ".desc", ".asc")
		if s.r.IntN(2) == 0 && view != "podium" {
			q += fmt.Sprintf(" limit=%d", 1+s.r.IntN(6))
		}
	}
	return q
}

// write is a write by somebody: past all clients, or by one of them.
func (s *scribe) write() {
	switch s.r.IntN(8) {
	case 0:
		s.say("storm %d %d run=r%d", s.id+1, s.id+15, s.r.IntN(8))
		s.id += 15
	case 1:
		s.say("write rooms {\"name\":\"r%d\",\"size\":%d} on_conflict=merge", s.r.IntN(8), 1+s.r.IntN(9))
	case 2:
		s.say("delete rooms r%d", s.r.IntN(8))
	case 3, 4:
		if c := s.clients; len(c) > 0 {
			s.id++
			s.n++
			s.say(`send %s w%d votes {"id":%d,"run":"r%d","who":"w%d","points":%d}`, pick(s.r, c...).name, s.n, s.id, s.r.IntN(8), s.r.IntN(8), s.r.IntN(12))
		}
	default:
		n := 1 + s.r.IntN(6)
		s.say("fill %d %d run=r%d", s.id+1, s.id+n, s.r.IntN(8))
		s.id += n
	}
}

// trouble is something with the connection of a client.
func (s *scribe) trouble(c *scribed) {
	switch what := s.r.IntN(6); {
	case c.held:
		s.say("release %s", c.name)
		c.held = false
	case c.off:
		s.say("online %s", c.name)
		c.off = false
	case what == 0:
		s.say("answers %s", c.name)
		s.say("hold %s", c.name)
		c.held = true
	case what == 1:
		s.say("answers %s", c.name)
		s.say("offline %s", c.name)
		c.off = true
	case what < 4:
		s.say("plan %s %s %s %d", c.name, pick(s.r, "down", "down", "up"), pick(s.r, "head", "edge", "middle", "between"), s.r.IntN(5))
	default:
		s.say("cut %s", c.name)
	}
}

func (s *scribe) step() {
	c := (*scribed)(nil)
	if len(s.clients) > 0 {
		c = pick(s.r, s.clients...)
	}
	switch n := s.r.IntN(20); {
	case c == nil || n == 0 && len(s.clients) < 8:
		s.n++
		c = &scribed{name: fmt.Sprintf("c%d", s.n)}
		transport, rate := pick(s.r, "ws", "sse"), pick(s.r, 0, 0, 0, 20)
		if transport == "sse" { // a stream has no rate
			rate = 0
		}
		s.say("connect %s driver=%s transport=%s fault=%s rate=%d", c.name, pick(s.r, s.drivers...), transport,
			pick(s.r, "none", "none", "delay", "cuts", "cuts-up"), rate)
		s.clients = append(s.clients, c)
	case n < 4 && len(c.subs) < 6:
		s.n++
		c.subs = append(c.subs, fmt.Sprintf("s%d", s.n))
		s.say("subscribe %s.s%d %s", c.name, s.n, s.ask())
	case n == 4 && len(c.subs) > 0:
		i := s.r.IntN(len(c.subs))
		s.say("leave %s.%s", c.name, c.subs[i])
		c.subs = slices.Delete(c.subs, i, i+1)
	case n == 5 && len(s.clients) > 3 && !c.held && !c.off:
		s.say("settle") // its writes are answered
		s.say("close %s", c.name)
		s.clients = slices.DeleteFunc(s.clients, func(o *scribed) bool { return o == c })
	case n < 10:
		s.trouble(c)
	case n == 10:
		s.say("settle")
	case n == 11 && s.r.IntN(6) == 0:
		s.say("restart")
	default:
		s.write()
	}
}

// compose writes a whole scenario.
func compose(seed uint64, drivers []string) string {
	s := &scribe{r: rand.New(rand.NewPCG(seed, 5)), drivers: drivers}
	s.say("proxied")
	s.say("yaml limits: {ring: %dKiB}", pick(s.r, 64, 256, 16384))
	for range 3 {
		s.step()
	}
	for range 40 + s.r.IntN(40) {
		s.step()
	}
	for _, c := range s.clients {
		if c.held {
			s.say("release %s", c.name)
		}
		if c.off {
			s.say("online %s", c.name)
		}
	}
	s.say("settle")
	return strings.Join(s.lines, "\n")
}

// TestRandom plays scenarios written at random by seed: many clients of every kind on one server. LAASTER_SEEDS=<how many>, LAASTER_SEED=<one>.
func TestRandom(t *testing.T) {
	ds := drivers(t)
	var names []string
	for name := range ds {
		names = append(names, name)
	}
	slices.Sort(names)
	first, last := uint64(1), uint64(max(6, seeds()))
	if one, err := strconv.ParseUint(os.Getenv("LAASTER_SEED"), 10, 64); err == nil {
		first, last = one, one
	}
	var mu sync.Mutex
	claims, seed, clients := 0, first, map[string]int{}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				mu.Lock()
				mine := seed
				seed++
				mu.Unlock()
				if mine > last {
					return
				}
				text := compose(mine, names)
				script, err := parseScript(fmt.Sprintf("seed %d", mine), text)
				p := &play{lane: lane{"raw", "ws", "none"}, script: script, drivers: ds, id: fmt.Sprintf("seed%d", mine)}
				if err == nil {
					err = p.run()
				}
				mu.Lock()
				claims += p.counted
				for kind, n := range p.kinds {
					clients[kind] += n
				}
				if err != nil {
					t.Errorf("LAASTER_SEED=%d: %v", mine, err)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	t.Logf("%d seeds, clients %v: %d states compared with the model; %d MiB in use at the end", last-first+1, clients, claims, mem.HeapInuse>>20)
	if first != last && claims < 100 {
		t.Errorf("only %d states were compared", claims)
	}
}
