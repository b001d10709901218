//go:build !linux

package load

func newEngine(s *Swarm) (engine, error) { return newPlain(s), nil }
