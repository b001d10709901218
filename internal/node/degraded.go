package node

import (
	"cmp"
	"slices"
	"sync"
)

// Degraded is something that does not work as it should while the server goes on.
type Degraded struct {
	What   string `json:"what"` // checkpoint, copy, retention, canary, disk, log, scrub, audit, issuer
	Reason string `json:"reason"`
	Since  int64  `json:"since_ms"` // milliseconds since 1970
}

// degraded lists what is degraded, one entry for each kind. Safe for concurrent use.
type degraded struct {
	sync.Mutex
	now []Degraded // ascending by What
}

func (d *degraded) list() []Degraded {
	d.Lock()
	defer d.Unlock()
	return slices.Clone(d.now)
}

// degrade says that what does not work as it should, and why. The time is that of the first such call since it last did.
func (n *Node) degrade(what, reason string) {
	d := &n.degraded
	d.Lock()
	defer d.Unlock()
	i, there := slices.BinarySearchFunc(d.now, what, func(a Degraded, b string) int { return cmp.Compare(a.What, b) })
	if there {
		d.now[i].Reason = reason
		return
	}
	d.now = slices.Insert(d.now, i, Degraded{what, reason, n.opt.Clock.Now().UnixMilli()})
}

// restore says that what works again.
func (n *Node) restore(what string) {
	d := &n.degraded
	d.Lock()
	defer d.Unlock()
	d.now = slices.DeleteFunc(d.now, func(x Degraded) bool { return x.What == what })
}
