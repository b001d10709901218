package vote

import (
	"testing"

	"laaster/internal/sql"
)

// TestAppCompiles checks app.sql as `laaster check` does: not even a warning.
func TestAppCompiles(t *testing.T) {
	_, diags := sql.Compile("app.sql", read(t, "app.sql"), nil)
	for _, d := range diags {
		t.Error(d.Render())
	}
}
