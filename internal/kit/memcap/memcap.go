// Package memcap keeps the process's memory in bounds that the garbage collector does not know by itself: how much the system lets this process have before the
// kernel kills it, and how much garbage is worth piling up.
package memcap

import (
	"bytes"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// none is what is no limit: version 1 writes the largest multiple of a page instead of a word.
const none = 1 << 60

// Limit returns the least memory limit, in bytes, of the control groups that the process is in, of both versions (Linux: cgroups(7)); ok is false when
// there is none or it cannot be read. root is the root folder of the system: os.DirFS("/").
func Limit(root fs.FS) (bytes int64, ok bool) {
	own, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	least := int64(none)
	for _, line := range strings.Split(string(own), "\n") { // number:controllers:path
		_, rest, _ := strings.Cut(line, ":")
		controllers, group, found := strings.Cut(rest, ":")
		switch {
		case !found:
		case controllers == "":
			least = min(least, walk(root, "sys/fs/cgroup", group, "memory.max"))
		case contains(controllers, "memory"):
			least = min(least, walk(root, "sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
		}
	}
	return least, least < none
}

func contains(list, word string) bool {
	for _, x := range strings.Split(list, ",") {
		if x == word {
			return true
		}
	}
	return false
}

// walk returns the least limit from the group up to the mount. Inside a container the group's path may be the host's, which is not there; the mount itself is
// the group then.
func walk(root fs.FS, mount, group, file string) int64 {
	least := int64(none)
	for at := path.Clean("/" + group); ; at = path.Dir(at) {
		if b, err := fs.ReadFile(root, path.Join(mount, at, file)); err == nil {
			if n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64); err == nil && n > 0 { // version 2 says max
				least = min(least, n)
			}
		}
		if at == "/" {
			return least
		}
	}
}
