//go:build !crashpoints

package fault

import "laaster/internal/kit/run"

// Clock returns c: the machine's clock, which only tests set wrong.
func Clock(c run.Clock) run.Clock { return c }
