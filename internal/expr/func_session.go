package expr

import (
	"crypto/rand"

	"laaster/internal/change"
)

func addSession(c *catalog) {
	for _, name := range []string{"now", "transaction_timestamp", "statement_timestamp"} {
		c.add(name+"() timestamptz", KNow).Volatility = Stable
	}
	c.add("auth_subject() text", KSubject).Volatility = Stable
	c.add("auth_role() text", KRole).Volatility = Stable
	c.add(claimFunction+"(text) text", authClaim).Volatility = Stable
	c.add("gen_random_uuid() uuid", randomUUID).Volatility = Volatile
}

// randomUUID makes a version 4 UUID.
func randomUUID(c *Ctx) (change.Value, error) {
	from := len(c.scratch)
	c.scratch = append(c.scratch, "0123456789abcdef"...)
	b := c.scratch[from:]
	_, _ = rand.Read(b) // never fails: it crashes the process instead
	b[6] = b[6]&0x0F | 0x40
	b[8] = b[8]&0x3F | 0x80
	return c.made(from), nil
}

// authClaim returns the text of a claim of the caller's token, NULL when it has none of that name.
func authClaim(c *Ctx, path change.Value) (change.Value, error) {
	if c.Claim == nil {
		return change.Null(), nil
	}
	text, ok := c.Claim(string(path.B))
	if !ok || !validText(text) {
		return change.Null(), nil
	}
	from := len(c.scratch)
	c.scratch = append(c.scratch, text...)
	return c.made(from), nil
}
