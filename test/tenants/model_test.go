package tenants

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// The app. Every text that a tenant writes begins with a mark that nobody else writes, so that one that turns up elsewhere is a leak.
const appSQL = `
CREATE ROLE member;
CREATE ROLE steward;

CREATE TABLE notes (id bigint PRIMARY KEY, tenant text NOT NULL, body text NOT NULL, size bigint NOT NULL);
CREATE TABLE events (tenant text NOT NULL, n bigint NOT NULL, body text NOT NULL) WITH (append_only);
CREATE TABLE seats (room text NOT NULL, who text NOT NULL, PRIMARY KEY (room, who));
CREATE TABLE messages (id bigint PRIMARY KEY, room text NOT NULL, body text NOT NULL);
CREATE MATERIALIZED VIEW sums AS SELECT tenant, count(*) AS n, sum(size) AS size, max(body) AS top FROM notes GROUP BY tenant;
CREATE MATERIALIZED VIEW big AS SELECT id, tenant, body, size FROM notes WHERE size > 50;

GRANT SELECT, INSERT, UPDATE, DELETE ON notes, messages TO member;
GRANT SELECT, INSERT ON events TO member;
GRANT SELECT ON sums, big, seats TO member;
GRANT ALL ON seats TO steward;

ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE seats ENABLE ROW LEVEL SECURITY;
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE sums ENABLE ROW LEVEL SECURITY;
ALTER TABLE big ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (tenant = auth_claim('tenant'));
CREATE POLICY own ON events USING (tenant = auth_claim('tenant'));
CREATE POLICY own ON sums USING (tenant = auth_claim('tenant'));
CREATE POLICY own ON big USING (tenant = auth_claim('tenant'));
CREATE POLICY own ON seats FOR SELECT TO member USING (who = auth_subject());
CREATE POLICY all_seats ON seats TO steward USING (true);
CREATE POLICY seated ON messages USING (room IN (SELECT room FROM seats WHERE who = auth_subject()));
`

// names of the tenants; subjects and the claim tenant alike.
var names = [...]string{"alpha", "bravo", "charlie"}

// mark is what texts of a tenant begin with.
func mark(tenant int) string { return strings.ToUpper(names[tenant]) + "~" }

// note, message and event are rows, in the order of their columns.
type (
	note struct {
		ID     int    `json:"id"`
		Tenant string `json:"tenant"`
		Body   string `json:"body"`
		Size   int    `json:"size"`
	}
	message struct {
		ID   int    `json:"id"`
		Room string `json:"room"`
		Body string `json:"body"`
	}
	event struct {
		Tenant string `json:"tenant"`
		N      int    `json:"n"`
		Body   string `json:"body"`
	}
)

// world is the model: everything there is, and what the policies make of it.
type world struct {
	notes    map[int]note
	messages map[int]message
	events   []event
	seats    map[[2]string]bool // room and who
}

func newWorld() *world {
	return &world{notes: map[int]note{}, messages: map[int]message{}, seats: map[[2]string]bool{}}
}

// sees returns what a tenant may see of a relation, as JSON without the copy numbers, sorted.
func (w *world) sees(tenant int, relation string) []string {
	var out []string
	add := func(row any) {
		text, err := json.Marshal(row)
		if err != nil {
			panic(err)
		}
		out = append(out, string(text))
	}
	me := names[tenant]
	n, size, top := 0, 0, ""
	for _, x := range w.notes {
		if x.Tenant != me {
			continue
		}
		n, size, top = n+1, size+x.Size, max(top, x.Body)
		if relation == "notes" || relation == "big" && x.Size > 50 {
			add(x)
		}
	}
	switch relation {
	case "sums":
		if n > 0 {
			out = append(out, fmt.Sprintf(`{"tenant":%q,"n":%d,"size":%d,"top":%q}`, me, n, size, top))
		}
	case "events":
		for _, x := range w.events {
			if x.Tenant == me {
				add(x)
			}
		}
	case "seats":
		for at := range w.seats {
			if at[1] == me {
				out = append(out, fmt.Sprintf(`{"room":%q,"who":%q}`, at[0], at[1]))
			}
		}
	case "messages":
		for _, x := range w.messages {
			if w.seats[[2]string{x.Room, me}] {
				add(x)
			}
		}
	}
	slices.Sort(out)
	return out
}

// plain returns rows as sees does.
func plain(rows []json.RawMessage) []string {
	var out []string
	for _, r := range rows {
		text := string(r)
		if at := strings.Index(text, `,"_n":`); at >= 0 {
			text = text[:at] + "}"
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}
