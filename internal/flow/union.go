package flow

// union passes on what all its inputs change.
type union struct {
	out []delta
}

func newUnion(*Union) *union { return &union{} }

func (u *union) apply(_ *exec, in [][]delta) []delta {
	u.out = u.out[:0]
	for _, d := range in {
		u.out = append(u.out, d...)
	}
	return u.out
}

func (u *union) bytes() int   { return 0 }
func (*union) state(*keeper)  {}
func (u *union) name() string { return "union" }
