// Package auth decides who asks and what they may.
//
// It owns the principal of a request and the one decision that every transport asks for: may this role do this to this
// relation. Deny is the default: what no GRANT allows is refused, and a relation that the caller may not even read is
// answered like one that does not exist only where naming it would tell more than the app's schema does (today names are not
// secret; unknown names are 404, known ones 401 or 403). Today every caller is [Anonymous]: tokens are not verified yet,
// and a request that carries one is refused rather than quietly treated as anonymous.
package auth

import (
	"net/netip"
	"strings"
	"sync/atomic"

	"laaster/app"
	"laaster/internal/wire"
)

// Principal is who asks. Comparable; safe to copy.
type Principal struct {
	Subject string // auth_subject()
	Role    string // auth_role()
	// From is the address that the request came from, without a port; IPv6 by its /64, which one caller has. What is shared out
	// between callers is shared out by subject and address: without tokens all have one subject. The zero value is one caller, too.
	From netip.Addr
}

// Anonymous returns the principal of callers without a token.
func Anonymous() Principal { return Principal{Subject: "anon", Role: "anon"} }

// Rules is the grants of the running app. The zero value refuses everything; safe for concurrent use.
type Rules struct {
	table atomic.Pointer[grants]
}

type grants struct {
	allowed map[grantKey]app.Privilege
}

type grantKey struct{ role, relation string }

// public is the role that every caller has.
const public = "public"

// Use replaces the rules by those of def.
func (r *Rules) Use(def *app.Definition) {
	g := &grants{allowed: map[grantKey]app.Privilege{}}
	for _, x := range def.Grants {
		g.allowed[grantKey{x.Role, x.Relation}] |= x.Allow
	}
	r.table.Store(g)
}

// Allow returns nil when p has every privilege of need on relation, else the problem to answer: unknown names are the
// caller's business (it knows whether it looked for a table or a view); here an ungranted one is unauthenticated for anon, as a
// token might help, and forbidden for others.
func (r *Rules) Allow(p Principal, relation string, need app.Privilege) *wire.Problem {
	if g := r.table.Load(); g != nil {
		have := g.allowed[grantKey{p.Role, relation}] | g.allowed[grantKey{public, relation}]
		if have&need == need {
			return nil
		}
	}
	verb := privilegeName(need)
	hint := "grant it in app.sql: GRANT " + verb + " ON " + relation + " TO " + p.Role
	if p.Role == Anonymous().Role {
		return wire.NewProblem(wire.Unauthenticated, verb+" on "+relation+" is not granted to anon").WithHint(hint)
	}
	return wire.NewProblem(wire.Forbidden, verb+" on "+relation+" is not granted to "+p.Role).WithHint(hint)
}

func privilegeName(p app.Privilege) string {
	var names []string
	for _, x := range []struct {
		bit  app.Privilege
		name string
	}{{app.Select, "SELECT"}, {app.Insert, "INSERT"}, {app.Update, "UPDATE"}, {app.Delete, "DELETE"}} {
		if p&x.bit != 0 {
			names = append(names, x.name)
		}
	}
	return strings.Join(names, ", ")
}

// At returns p as it calls from remote, an address with a port as net/http gives it. What is no IP address leaves p as it is.
func (p Principal) At(remote string) Principal {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return p
	}
	p.From = a.Addr().Unmap().WithZone("")
	if p.From.Is6() {
		if net, err := p.From.Prefix(64); err == nil {
			p.From = net.Addr()
		}
	}
	return p
}
