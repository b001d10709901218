package auth

import (
	"testing"

	"laaster/app"
	"laaster/internal/wire"
)

func TestDenyByDefault(t *testing.T) {
	var r Rules
	anon, nurse := Anonymous(), Principal{Subject: "n1", Role: "nurse"}
	if p := r.Allow(anon, "votes", app.Select); p == nil {
		t.Fatal("rules without grants allow a read")
	}
	r.Use(&app.Definition{Grants: []app.Grant{
		{Role: "anon", Relation: "votes", Allow: app.Insert},
		{Role: "public", Relation: "tally", Allow: app.Select},
		{Role: "nurse", Relation: "beds", Allow: app.Insert}, {Role: "nurse", Relation: "beds", Allow: app.Update},
	}})
	for _, c := range []struct {
		who      Principal
		relation string
		need     app.Privilege
		want     wire.Code
	}{
		{anon, "votes", app.Insert, ""},
		{anon, "votes", app.Select, wire.Unauthenticated},
		{anon, "votes", app.Insert | app.Update, wire.Unauthenticated},
		{anon, "tally", app.Select, ""},
		{nurse, "tally", app.Select, ""},
		{nurse, "votes", app.Insert, wire.Forbidden},
		{nurse, "beds", app.Insert | app.Update, ""},
		{nurse, "beds", app.Delete, wire.Forbidden},
		{Principal{Role: "public"}, "beds", app.Select, wire.Forbidden},
		{anon, "", app.Select, wire.Unauthenticated},
	} {
		p := r.Allow(c.who, c.relation, c.need)
		if (p == nil) != (c.want == "") || p != nil && p.Code != c.want {
			t.Errorf("%s on %s, %s: got %v, want %q", c.who.Role, c.relation, privilegeName(c.need), p, c.want)
		}
		if p != nil && p.Hint == "" {
			t.Errorf("%s on %s: no hint", c.who.Role, c.relation)
		}
	}
}
