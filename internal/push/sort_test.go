package push

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// TestSortingIsBounded: reads that would sort more than the budget are told busy before anything is written, and the budget is
// whole again afterwards.
func TestSortingIsBounded(t *testing.T) {
	cols := []app.Column{{Name: "id", Type: app.Int8}, {Name: "n", Type: app.Int8}}
	rel := &expr.Relation{Name: "v", Columns: cols, Layout: change.ColumnLayout(cols), Key: []int{0}}
	store := view.New([]*expr.Relation{rel}, view.Options{})
	epoch := &change.Epoch{Seq: 1, Deltas: []change.Delta{{}}}
	for i := range int64(3000) {
		row := rel.Layout.Append(nil, []change.Value{change.Int(i), change.Int(-i)})
		key := change.AppendKey(nil, app.Int8, change.Int(i), false, false)
		epoch.Deltas[0].Changes = append(epoch.Deltas[0].Changes, change.RowChange{Key: key, New: row})
	}
	store.Apply(epoch)
	h, err := NewHub(context.Background(), Options{Store: store, SortBytes: 200_000, Rules: rulesFunc(func(auth.Principal, string) *wire.Problem { return nil })})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/views/{view}", h.ServeView)
	get := func(query string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/v1/views/v?"+query, nil))
		return w.Code, w.Body.String()
	}
	for query, want := range map[string]int{"order=n": 503, "order=n&limit=10": 200, "order=id": 200, "": 200, "id=lt.100&order=n": 200} {
		status, body := get(query)
		if status != want {
			t.Errorf("%q: %d %.200s, want %d", query, status, body, want)
		}
		var rows []struct{ ID int }
		if status == 200 && json.Unmarshal([]byte(body), &rows) != nil {
			t.Errorf("%q: not JSON: %.200s", query, body)
		}
		if query == "order=n&limit=10" && (len(rows) != 10 || rows[0].ID != 2999) {
			t.Errorf("%q: %v", query, rows)
		}
		if used := h.sorting.used.Load(); used != 0 {
			t.Errorf("%q: %d bytes of the budget did not come back", query, used)
		}
	}
}
