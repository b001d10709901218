package push

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"laaster/app"
)

// TestTagOfAnOrder: an answer is another one when its rows change places, also by a column that it does not show.
func TestTagOfAnOrder(t *testing.T) {
	for _, c := range []struct {
		path string
		own  []app.OrderBy // of the view
		want string
	}{
		{"/v1/views/tally?select=contestant&order=votes", nil, "[{\"contestant\":\"B\"},\n{\"contestant\":\"A\"}]\n"},
		{"/v1/views/tally?select=contestant&order=votes&limit=1", nil, "[{\"contestant\":\"B\"}]\n"},
		{"/v1/views/tally?select=contestant&limit=1", []app.OrderBy{{Column: 1}}, "[{\"contestant\":\"B\"}]\n"},
	} {
		rels := relations()
		rels[0].Order = c.own
		b := newBenchOf(t, Options{}, 0, rels)
		get := func(tag string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			b.hub.ServeView(w, viewRequest(http.MethodGet, c.path+" If-None-Match:"+tag))
			return w
		}
		set := func(who, votes, note string) { b.apply(edit{rel: 0, vals: []*string{&who, &votes, &note}}) }
		set("A", "1", "x")
		set("B", "2", "x")
		tag := get("").Header().Get("ETag")
		set("A", "1", "y")
		if w := get(tag); w.Code != http.StatusNotModified {
			t.Errorf("%s: after a change that is not shown: %d %s", c.path, w.Code, w.Body)
		}
		set("A", "3", "y")
		if w := get(tag); w.Code != http.StatusOK || w.Body.String() != c.want {
			t.Errorf("%s: after the rows changed places: %d %s", c.path, w.Code, w.Body)
		}
	}
}
