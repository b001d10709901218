//go:build unix

package main

import (
	"os"
	"slices"
	"strings"
	"syscall"
)

// awakeSetting keeps the runtime's monitor thread (runtime.sysmon of Go 1.26) out of its deep sleep. It falls into that whenever nothing runs, which is
// hundreds of times a second in a server that waits for its disk, and after each time looks 50 times, 20 µs apart, for system calls that take long: 3,700
// wake-ups a second, and 3 of the 22 µs that a change cost (laaster bench channels). Awake, it looks every 10 ms until it finds one. There is no setting for
// that alone: this one asks for a line about the scheduler on stderr every 24 days. It is read before main, so the process has to begin anew.
const awakeSetting = "schedtrace=2147483647"

// stayAwake replaces the process with itself, with awakeSetting. It does nothing when there is such a setting, the user's or its own, and when the
// system does not let it.
func stayAwake() {
	was := os.Getenv("GODEBUG")
	self, err := os.Executable()
	if err != nil || strings.Contains(was, "schedtrace=") {
		return
	}
	setting := "GODEBUG=" + strings.TrimPrefix(was+","+awakeSetting, ",")
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "GODEBUG=") })
	_ = syscall.Exec(self, os.Args, append(env, setting)) // returns only if it fails: then everything is the same but for the processor time
}
