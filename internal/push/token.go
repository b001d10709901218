package push

import (
	"time"

	"laaster/internal/auth"
	"laaster/internal/wire"
)

// introduced takes the token of a hello, if it brings one.
func (c *conn) introduced(token string) *wire.Problem {
	if token == "" {
		return c.lapsed()
	}
	was := c.asks()
	who, p := c.h.opt.Identify(token, was)
	switch {
	case p != nil:
		return p
	case was.Token != nil && who.Subject != was.Subject:
		return wire.NewProblem(wire.Unauthenticated, "the hello brings a token of another subject than the request did").WithField("token", "send one token")
	}
	c.who.Store(&who)
	c.stirred.Store(true)
	c.renewed() // Settle may have passed since it was identified
	return nil
}

// refresh takes a token that renews the one before. What cannot be believed changes nothing; another subject begins with a connection of its own, since what
// this one has set and reserved is the first one's.
func (c *conn) refresh(token string) {
	was := c.asks()
	who, p := c.h.opt.Identify(token, was)
	switch {
	case p != nil:
		code := p.Code
		if code == wire.Unauthenticated && was.Token != nil { // who sent it is known: to him it is a bad frame
			code = wire.InvalidRequest
		}
		c.h.opt.Limiter.Misread(was, code)
		c.refuse("", p)
	case who.Subject != was.Subject || was.Token == nil:
		c.goodbye(wire.Unauthenticated, "the token is of another subject: connect anew with it", anewMS*time.Millisecond, closeTryLater)
	default:
		c.authorized(who)
	}
}

// Bounds of token frames: so many at once, then one after each of these times. Each may move all subscriptions.
const (
	renewals   = 5
	renewEvery = 1000 // ms
)

// renewable says why a token frame may not be carried out now. The caller reads from the connection.
func (c *conn) renewable() *wire.Problem {
	now := c.h.now()
	due := max(c.renewals, now) + renewEvery
	if wait := due - now - renewals*renewEvery; wait > 0 {
		return retryLater(wire.RateLimited, "more tokens than a connection may send", time.Duration(wait)*time.Millisecond).
			WithField("token", "send one when the last is about to end")
	}
	c.renewals = due
	return nil
}

// anewMS is after how long a client that has become somebody else comes back.
const anewMS = 100

// lapsed says why the connection's token is not good any more; nil: it is, or there is none.
func (c *conn) lapsed() *wire.Problem {
	if who := c.who.Load(); who.Token != nil {
		return c.h.opt.Ended(*who)
	}
	return nil
}

// dismiss ends a connection whose client is not believed any more.
func (c *conn) dismiss(p *wire.Problem) {
	c.refuseLater("", p)
	code := closePolicy
	if p.Retry == wire.RetryAfter {
		code = closeTryLater
	}
	c.goodbye(p.Code, p.Detail, time.Duration(p.RetryAfterMS)*time.Millisecond, code)
}

// renewed has the connection speak in the role that the app's present definition gives its token.
func (c *conn) renewed() {
	was := c.who.Load()
	if was.Token == nil {
		return
	}
	if now := c.h.opt.Again(*was); now != *was {
		c.who.CompareAndSwap(was, &now) // else a newer token has come
	}
}

// noIdentify is the standard Options.Identify.
func noIdentify(string, auth.Principal) (auth.Principal, *wire.Problem) {
	return auth.Principal{}, noTokens().WithField("token", "connect without a token: you are anon")
}
