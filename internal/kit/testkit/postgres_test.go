package testkit

import "testing"

func TestPostgresAnswers(t *testing.T) {
	pg := Postgres(t)
	c := pg.Schema(t)
	var got string
	err := c.QueryRow(t.Context(), `SELECT current_setting('TimeZone') || ' ' || current_setting('lc_collate') || ' ' ||
		current_setting('server_encoding') || ' ' || (1.0/3)::text`).Scan(&got)
	if err != nil {
		t.Fatal(err)
	}
	if want := "UTC C UTF8 0.33333333333333333333"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if _, err := c.Exec(t.Context(), "CREATE TABLE votes (id int)"); err != nil {
		t.Fatal(err)
	}
	if pg != Postgres(t) {
		t.Fatal("a second call started a second cluster")
	}
}
