package client_test

import (
	"errors"
	"strings"
	"testing"

	"laaster/client"
)

func text(rows []client.Row) string {
	var parts []string
	for _, r := range rows {
		parts = append(parts, string(r))
	}
	return strings.Join(parts, "\n")
}

type vote struct {
	ID         int    `json:"id"`
	Contestant string `json:"contestant"`
	Points     int    `json:"points"`
}

func transports(t *testing.T, f func(t *testing.T, tr client.Transport)) {
	for _, tr := range []client.Transport{client.WebSocket, client.Events} {
		t.Run(string(tr), func(t *testing.T) { f(t, tr) })
	}
}

// TestLive: rows, a write, the change, the order.
func TestLive(t *testing.T) {
	n, _ := serve(t, appSQL, nil)
	transports(t, func(t *testing.T, tr client.Transport) {
		ctx := within(t)
		c := dial(t, n.PublicURL(), client.Options{Transport: tr})
		tally := c.Subscribe("tally", client.Query{Order: "points.desc"})
		total := c.Subscribe("total", client.Query{})
		if err := tally.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		base := 100
		if tr == client.Events {
			base = 200
		}
		a, b := string(tr)+"-Åse", string(tr)+"-Bo"
		r, err := c.Insert(ctx, "votes", []vote{{base, a, 12}, {base + 1, b, 7}, {base + 2, b, 1}, {base + 3, b, -1}})
		if err != nil || r.Accepted != 3 || len(r.Rejected) != 1 || r.Rejected[0].Index != 3 || r.Rejected[0].Problem.Code != "constraint" || r.Position == "" {
			t.Fatalf("%+v %v", r, err)
		}
		if err := c.Reach(ctx, r.Position); err != nil {
			t.Fatal(err)
		}
		if tr == client.WebSocket {
			m, err := c.Together(ctx, tally, total)
			if err != nil || m.Position < r.Position || text(m.Rows[0]) != `{"contestant":"websocket-Åse","points":12,"n":1}`+"\n"+`{"contestant":"websocket-Bo","points":8,"n":2}` {
				t.Errorf("%v %+v", err, m)
			}
		}
		if row, ok := tally.Get(a); !ok || !strings.Contains(string(row), `"points":12`) {
			t.Errorf("%s %v", row, ok)
		}
		_, err = c.Insert(ctx, "votes", vote{base + 9, a, -5})
		var p *client.Problem
		if !errors.As(err, &p) || p.Code != "constraint" || p.Key == "" {
			t.Errorf("%v", err)
		}
		got, err := c.Read(ctx, "tally", client.Query{Filter: client.Where("contestant", "eq."+b)}, client.ReadOptions{After: r.Position})
		if err != nil || len(got.Rows) != 1 || got.ETag == "" {
			t.Errorf("%+v %v", got, err)
		}
	})
}
