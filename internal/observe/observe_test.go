package observe

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestMetricsPage(t *testing.T) {
	m := NewMetrics()
	m.Appended(3, 400, time.Millisecond, 2*time.Millisecond)
	m.Stamp(Shown, 0.08)
	m.Gauge("laaster_test_gauge", "A gauge of this test.", func() float64 { return 7 })
	m.Refused.WithLabelValues("busy").Inc()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{
		`laaster_delay_seconds_count{stamp="received"} 0`,
		`laaster_delay_seconds_count{stamp="logged"} 1`,
		`laaster_delay_seconds_count{stamp="applied"} 0`,
		`laaster_delay_seconds_count{stamp="sent"} 0`,
		`laaster_delay_seconds_count{stamp="shown"} 1`,
		"laaster_log_batches_total 1", "laaster_log_bytes_total 400", "laaster_log_batch_rows_sum 3",
		"laaster_test_gauge 7", `laaster_refused_total{code="busy"} 1`,
	} {
		if !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("/metrics lacks %q", line)
		}
	}
}
