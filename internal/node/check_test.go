package node

import "testing"

// The examples are what people copy: they must have no findings at all.
func TestExamplesCheck(t *testing.T) {
	for _, dir := range []string{"../../examples/vote", "../../examples/cursors"} {
		found, err := Check(dir)
		if err != nil {
			t.Fatal(err)
		}
		for i := range found {
			t.Errorf("%s: %s", dir, found[i].Render())
		}
	}
}
