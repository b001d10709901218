package expr_test

import (
	"math/rand/v2"
	"testing"

	"laaster/app"
	"laaster/internal/expr"
)

// What to_timestamp and to_date read by a format is what PostgreSQL reads, and what they refuse it refuses.
func TestFromCharIsAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(14, 92))
	formats := []string{"YYYY-MM-DD", "YYYY-MM-DD HH24:MI:SS", "YYYYMMDD", "YYYYMMDDHH24MISS", "DD/MM/YYYY", "DD Mon YYYY", "FMMonth DD, YYYY", "Day, DD Month YYYY", "HH12:MI AM",
		"YYYY-MM-DD\"T\"HH24:MI:SS.US", "YYYY-MM-DD HH24:MI:SS.MS", "YY-MM-DD", "YYYY DDD", "J", "YYYY-MM-DD HH24:MI TZH:TZM", "Y,YYY-MM-DD", "YYYY-MM-DD BC", "MM/DD/YY", "SSSS", "DDth Mon YYYY",
		"YYYY-MM-DD HH24:MI:SS.FF3", "  YYYY MM  DD"}
	texts := []string{"2024-02-29", "2024-01-02 03:04:05", "20240102", "20240102030405", "02/01/2024", "2 Jan 2024", "January 12, 2024", "Tuesday, 02 January 2024", "03:15 PM", "12:00 am",
		"2024-01-02T03:04:05.123456", "2024-01-02 03:04:05.5", "24-01-02", "99-12-31", "2024 366", "2023 366", "2460312", "2024-01-02 03:04 +02:30", "2024-01-02 03:04 -08:00", "2,024-01-02",
		"0044-03-15 BC", "12/31/99", "3661", "2nd Jan 2024", "2024-13-01", "2024-02-30", "nonsense", "", "2024", "2024-1-2", "  2024  01 02", "2024/01/02", "2024.01.02 03.04.05", "13:00 PM",
		"2024-01-02 25:00:00", "20240230", "2024-01-02 extra"}
	var sql, got []string
	for _, f := range formats {
		for _, text := range texts {
			name := pick(r, "to_timestamp", "to_date")
			n, err := expr.Call(name, []*expr.Node{constOf(t, app.Text, text), constOf(t, app.Text, f)}, -1)
			sql = append(sql, name+"("+sqlLiteral(app.Text, text)+", "+sqlLiteral(app.Text, f)+")")
			got = append(got, ours(n, err))
		}
	}
	bad := 0
	for i, want := range o.ask(sql) {
		if !same(got[i], want) && !bothRefuse(got[i], want) {
			if bad++; bad < 25 {
				t.Errorf("%s\n got %s\nwant %s", sql[i], got[i], want)
			}
		}
	}
}
