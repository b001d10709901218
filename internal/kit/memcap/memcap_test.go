package memcap

import (
	"testing"
	"testing/fstest"
)

func TestLimit(t *testing.T) {
	type files map[string]string
	for name, c := range map[string]struct {
		files files
		want  int64
		ok    bool
	}{
		"no groups":         {files{}, 0, false},
		"version 2":         {files{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "536870912\n"}, 512 << 20, true},
		"version 2, none":   {files{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 0, false},
		"in a container":    {files{"proc/self/cgroup": "0::/../x/y\n", "sys/fs/cgroup/memory.max": "1048576\n"}, 1 << 20, true},
		"version 1":         {files{"proc/self/cgroup": "5:cpu:/z\n4:memory:/p/q\n0::/\n", "sys/fs/cgroup/memory/p/q/memory.limit_in_bytes": "2097152\n"}, 2 << 20, true},
		"version 1, two":    {files{"proc/self/cgroup": "4:hugetlb,memory:/p\n", "sys/fs/cgroup/memory/p/memory.limit_in_bytes": "9223372036854771712\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "4096\n"}, 4096, true},
		"version 1, none":   {files{"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0, false},
		"not a number":      {files{"proc/self/cgroup": "0::/a\n\nx\n:\n1:memory\n", "sys/fs/cgroup/a/memory.max": "lots\n"}, 0, false},
		"another's control": {files{"proc/self/cgroup": "4:memoryx:/p\n", "sys/fs/cgroup/memory/p/memory.limit_in_bytes": "4096\n"}, 0, false},
	} {
		root := fstest.MapFS{}
		for path, text := range c.files {
			root[path] = &fstest.MapFile{Data: []byte(text)}
		}
		got, ok := Limit(root)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %d, %t; want %d, %t", name, got, ok, c.want, c.ok)
		}
	}
}
