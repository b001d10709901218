package sql

import (
	"slices"
	"strconv"

	"laaster/app"
	"laaster/internal/sql/syntax"
)

// maxBurst bounds the option burst of a table, in rows: as many as a request may have.
const maxBurst = 100_000

// rateOption checks rate = '20/s per subject' and burst = 40, which go together.
func (c *compiler) rateOption(o syntax.Option, all []syntax.Option) {
	if o.Key.Text == "burst" {
		if !given(all, "rate") {
			c.fail(o.Span, "add rate = '20/s per subject'", "burst needs rate")
		}
		return
	}
	if o.Value == nil || o.Value.Kind != syntax.OptString { // told already
		return
	}
	r, _, err := app.ParseTableRate(o.Value.Text)
	if err != nil {
		c.fail(o.Value.Span, "for example: rate = '20/s per subject', '1000/min per address' or '500/s' for all together", "%s", err.Error())
	}
	i := slices.IndexFunc(all, func(x syntax.Option) bool { return x.Key.Text == "burst" })
	if i < 0 || all[i].Value == nil {
		return
	}
	burst, err := strconv.Atoi(all[i].Value.Text)
	if err != nil || burst < 1 || burst > maxBurst { // told already
		return
	}
	if _, err := r.WithBurst(float64(burst)); err != nil {
		c.fail(all[i].Value.Span, "", "%s", err.Error())
	}
}
