// Package tenants plays random histories of three tenants of one app over every transport, against the real server and an independent model: each sees, counts
// and changes its own rows alone. Every byte that the server sends to a tenant is looked through for what belongs to the others.
package tenants
