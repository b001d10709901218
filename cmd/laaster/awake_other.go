//go:build !unix

package main

// stayAwake is for systems on which a process can replace itself.
func stayAwake() {}
