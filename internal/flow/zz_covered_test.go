package flow_test

import (
	"flag"
	"testing"
)

// TestCovered runs behind all others: every kind of holder of state was loaded from a checkpoint with something in it.
func TestCovered(t *testing.T) {
	if flag.Lookup("test.run").Value.String() != "" || testing.Short() {
		t.Skip("only some of the tests ran")
	}
	for _, name := range []string{"aggregate", "closeIndex", "distinct", "distinctSet", "countedBits", "ordered", "extreme", "listOf", "firstOf", "percentile",
		"mode", "sketch", "floatSum", "numericSum", "clockGate", "markGate", "join", "lookup", "over", "session", "sessionSum", "setOp", "topN", "topFew",
		"errorLog", "seenRows", "lateLog", "tableState", "watermark", "expiry", "window", "marks", "producers", "audit", "Stopped"} {
		if !covered["*flow."+name] {
			t.Errorf("no %s was loaded with something in it", name)
		}
	}
	for _, name := range []string{"flow.numericVariance", "flow.floatVariance", "bag", "seen", "requests"} {
		if !covered[name] {
			t.Errorf("no %s was loaded with something in it", name)
		}
	}
}
