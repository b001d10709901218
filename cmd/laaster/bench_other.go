//go:build !linux

package main

import "syscall"

// ownGroup is nothing here: a terminal's Ctrl-C also reaches the child, which drains.
func ownGroup() *syscall.SysProcAttr { return nil }
