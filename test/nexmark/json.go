package nexmark

import (
	"strconv"
	"time"
)

// AppendJSON appends the event as an object of its table's columns and a newline.
func (e *Event) AppendJSON(dst []byte) []byte {
	first := true
	name := func(n string) {
		if !first {
			dst = append(dst, ',')
		} else {
			dst = append(dst, '{')
		}
		first = false
		dst = append(append(append(dst, '"'), n...), '"', ':')
	}
	num := func(n string, v int64) { name(n); dst = strconv.AppendInt(dst, v, 10) }
	text := func(n string, v []byte) { name(n); dst = append(append(append(dst, '"'), v...), '"') } // letters, digits, punctuation without escapes
	when := func(n string, us int64) {
		name(n)
		dst = append(time.UnixMicro(us).UTC().AppendFormat(append(dst, '"'), "2006-01-02 15:04:05.000"), '"')
	}
	v, s := &e.Numbers, &e.Texts
	switch e.Kind {
	case Person:
		num("id", v[0])
		for i, n := range [...]string{"name", "email_address", "credit_card", "city", "state", "extra"} {
			text(n, s[i])
		}
	case Auction:
		for i, n := range [...]string{"id", "initial_bid", "reserve", "seller", "category"} {
			num(n, v[i])
		}
		for i, n := range [...]string{"item_name", "description", "extra"} {
			text(n, s[i])
		}
		when("expires", e.Expires)
	case Bid:
		for i, n := range [...]string{"auction", "bidder", "price"} {
			num(n, v[i])
		}
		for i, n := range [...]string{"channel", "url", "extra"} {
			text(n, s[i])
		}
	}
	when("date_time", e.Time)
	return append(dst, '}', '\n')
}
