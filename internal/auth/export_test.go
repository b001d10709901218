package auth

// CachedRules returns how many rules are kept.
func CachedRules(r *Rules) int {
	c := &r.table.Load().rules
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.newer) + len(c.older)
}
