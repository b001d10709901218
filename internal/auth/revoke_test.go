package auth

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"laaster/internal/wire"
)

func TestRevocations(t *testing.T) {
	at := time.Unix(1_790_000_000, 0)
	token := func(change func(*Token)) *Token {
		x := &Token{Issuer: "i", ID: "t1", Session: "s1", subject: "u1", Issued: at.Add(-time.Minute)}
		if change != nil {
			change(x)
		}
		return x
	}
	later := func(x *Token) { x.Issued = at.Add(time.Second) }
	for name, x := range map[string]struct {
		r       Revocation
		t       *Token
		revoked bool
	}{
		"its subject":                  {Revocation{Subject: "u1"}, token(nil), true},
		"its subject, issued then":     {Revocation{Subject: "u1"}, token(func(x *Token) { x.Issued = at }), true},
		"its subject, issued later":    {Revocation{Subject: "u1"}, token(later), false},
		"another subject":              {Revocation{Subject: "u2"}, token(nil), false},
		"its id":                       {Revocation{ID: "t1"}, token(nil), true},
		"another id":                   {Revocation{ID: "t2"}, token(nil), false},
		"no id":                        {Revocation{ID: "t2"}, token(func(x *Token) { x.ID = "" }), false},
		"its session":                  {Revocation{Session: "s1"}, token(nil), true},
		"its session, issued later":    {Revocation{Session: "s1"}, token(later), true},
		"another session":              {Revocation{Session: "s2"}, token(nil), false},
		"all until then":               {Revocation{Before: at.Unix()}, token(nil), true},
		"all until before":             {Revocation{Before: at.Unix() - 61}, token(nil), false},
		"all until then, later":        {Revocation{Before: at.Unix()}, token(later), false},
		"all of its issuer":            {Revocation{Issuer: "i", Before: at.Unix()}, token(nil), true},
		"all of another issuer":        {Revocation{Issuer: "j", Before: at.Unix()}, token(nil), false},
		"its subject, of another":      {Revocation{Issuer: "j", Subject: "u1"}, token(nil), false},
		"its subject, another session": {Revocation{Subject: "u1", Session: "s2"}, token(nil), false},
		"its subject until before":     {Revocation{Subject: "u1", Before: at.Unix() - 61}, token(nil), false},
	} {
		r, err := NewRevocation(x.r, at)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		table := NewRevocations(15*time.Minute, 2*time.Second)
		table.Add(r, at)
		if got := table.Revoked(x.t); got != x.revoked {
			t.Errorf("%s: %t", name, got)
		}
		details, err := r.Details()
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(details)
		if again, ok := FromAct(text); !ok || again != r {
			t.Errorf("%s: %+v came back as %+v", name, r, again)
		}
	}
	for _, r := range []Revocation{{}, {Issuer: "i"}, {Subject: string(make([]byte, 1025))}, {Before: at.Unix() + 61}, {Before: -1}, {Subject: "u1", Before: -5}} {
		if _, err := NewRevocation(r, at); err == nil {
			t.Errorf("%+v revokes something", r)
		}
	}
	for _, text := range []string{"", "{}", `{"at":1}`, `{"subject":"u"}`, `[]`} {
		if r, ok := FromAct([]byte(text)); ok {
			t.Errorf("%s is %+v", text, r)
		}
	}
}

// TestRevocationsEnd compares the table with a list through a long time: it is exact while tokens may live, and forgets what does not matter.
func TestRevocationsEnd(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const life = 15 * time.Minute
	table, now := NewRevocations(life, 0), time.Unix(1_790_000_000, 0)
	var list []Revocation
	most := 0
	for range 6000 {
		now = now.Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
		var r Revocation
		switch rng.IntN(40) {
		case 0:
			r = Revocation{Before: now.Unix() - rng.Int64N(600)}
		case 1:
			r = Revocation{Issuer: "i", Before: now.Unix()}
		default:
			r = Revocation{Subject: fmt.Sprint("u", rng.IntN(300))}
			if rng.IntN(3) == 0 {
				r = Revocation{Session: fmt.Sprint("s", rng.IntN(300))}
			}
		}
		r, err := NewRevocation(r, now)
		if err != nil {
			t.Fatal(err)
		}
		table.Add(r, now)
		list = append(list, r)
		tok := &Token{Issuer: []string{"i", "j"}[rng.IntN(2)], subject: fmt.Sprint("u", rng.IntN(300)), Session: fmt.Sprint("s", rng.IntN(300)),
			Issued: now.Add(-time.Duration(rng.IntN(int(life))))}
		want := false
		for i := range list {
			// A session's revocation holds as long as its tokens of then could live.
			want = want || list[i].fits(tok) && now.Before(table.ends(&list[i]))
		}
		if want && !table.Revoked(tok) { // the table may remember longer than it has to
			t.Fatalf("%s: %+v is good", now, tok)
		}
		most = max(most, table.Len())
	}
	if most > 2000 {
		t.Fatalf("%d revocations in a table that needs about 700", most)
	}
}

// TestRevocationsFull: at the bound there is a way out that forgets nobody.
func TestRevocationsFull(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	table := NewRevocations(15*time.Minute, 2*time.Second)
	for i := range MaxRevocations {
		r, _ := NewRevocation(Revocation{Subject: fmt.Sprint(i)}, now)
		table.Add(r, now)
	}
	if p := table.Full(&Revocation{Subject: "x"}, now); p == nil || p.Code != wire.Busy {
		t.Fatalf("%v", p)
	}
	r, _ := NewRevocation(Revocation{Before: now.Unix()}, now)
	if p := table.Full(&r, now); p != nil {
		t.Fatal(p)
	}
	table.Add(r, now)
	if table.Len() != 1 || table.Full(&Revocation{Subject: "x"}, now) != nil || !table.Revoked(&Token{subject: "77", Issued: now}) {
		t.Fatalf("%d revocations", table.Len())
	}
	now = now.Add(time.Hour)
	table.Add(r, now)
	r, _ = NewRevocation(Revocation{Subject: "x"}, now)
	for range 2000 {
		r.Subject += "x"
		table.Add(r, now)
	}
	if n := table.Len(); n != 2000 {
		t.Fatalf("%d revocations after an hour", n)
	}
}

// TestRevokeAll: what a revocation of everything replaces, and what it must not: a session has later tokens, and an issuer's clock may be ahead.
func TestRevokeAll(t *testing.T) {
	at := time.Unix(1_790_000_000, 0)
	made := func(table *Revocations, r Revocation, now time.Time) {
		t.Helper()
		r, err := NewRevocation(r, now)
		if err != nil {
			t.Fatal(err)
		}
		table.Add(r, now)
	}
	table := NewRevocations(15*time.Minute, 2*time.Second)
	made(table, Revocation{ID: "old"}, at)
	made(table, Revocation{ID: "old", Session: "s"}, at)
	made(table, Revocation{Issuer: "j", ID: "old"}, at)
	made(table, Revocation{Session: "s"}, at)
	made(table, Revocation{ID: "new"}, at.Add(9*time.Second)) // of a token that says it is issued at at + 11s
	now := at.Add(10 * time.Second)
	made(table, Revocation{Issuer: "i", Before: now.Unix()}, now)
	if n := table.Len(); n != 6 { // which are of any issuer, or of another
		t.Errorf("%d after those of an issuer", n)
	}
	made(table, Revocation{Before: now.Unix()}, now)
	made(table, Revocation{Before: now.Unix() - 5}, now) // included
	made(table, Revocation{Issuer: "i", Before: now.Unix()}, now)
	if n := table.Len(); n != 3 {
		t.Errorf("%d revocations, not those of the session, of the new token and of all", n)
	}
	for name, x := range map[string]struct {
		t    Token
		want bool
	}{
		"the old token":                 {Token{ID: "old", Issued: at}, true},
		"the new one, of a clock ahead": {Token{ID: "new", Issued: at.Add(11 * time.Second)}, true},
		"of the session, later":         {Token{Session: "s", Issued: at.Add(time.Minute)}, true},
		"another, later":                {Token{ID: "x", Issued: at.Add(time.Minute)}, false},
	} {
		if got := table.Revoked(&x.t); got != x.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	for i := range MaxRevocations {
		made(table, Revocation{Session: fmt.Sprint(i)}, now)
	}
	if p := table.Full(&Revocation{Before: now.Unix(), Issuer: "i"}, now); p != nil {
		t.Errorf("no place for all of an issuer: %s", p.Detail)
	}
	for i := range generalPlaces {
		made(table, Revocation{Issuer: fmt.Sprint(i), Before: now.Unix() + 1}, now)
	}
	if p := table.Full(&Revocation{Before: now.Unix(), Issuer: "i"}, now); p == nil {
		t.Error("more of issuers than there are places")
	}
	if p := table.Full(&Revocation{Before: now.Unix() + 1}, now); p != nil {
		t.Errorf("no place for all: %s", p.Detail)
	}
}
