// Package sdkjs carries the built TypeScript SDK, so that every server hands out the client that speaks its protocol: the
// module laaster.js, laaster-tabs.js for tabs that share a connection, and their types (.d.ts). The sources are in src/; dist/ is
// built from them by the tests of this package (go test ./sdk/js -update) and committed, so that a machine with Go alone can build
// the server.
package sdkjs

import (
	"embed"
	"io/fs"
)

//go:embed dist/laaster.js dist/laaster.d.ts dist/laaster-tabs.js dist/laaster-tabs.d.ts
var dist embed.FS

// Files returns the modules and their types at the root of a read-only file system. Their times are zero, since the build is the
// same every time.
func Files() fs.FS {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // only for a name that is not valid
	}
	return files
}
