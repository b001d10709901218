// Command audit looks at what Laaster is made of: `make audit`. It verifies the modules against go.sum, checks their licences against the list of those
// that may be used, prints the bill of materials of the binary (CycloneDX 1.6), builds the binary a second time elsewhere and compares it byte for byte, and
// runs govulncheck when its database is at hand. It exits with 1 when something is found.
//
// The database is a folder or a .tar.gz of the reports in OSV form: $LAASTER_VULNDB, or ../shared/vulndb.tar.gz beside the project. Nothing is fetched.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	sbom := flag.String("sbom", "", "write the bill of materials to this file instead of printing it")
	quick := flag.Bool("quick", false, "without the second build")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed := false
	step := func(name string, f func() (string, error)) {
		said, err := f()
		switch {
		case err != nil:
			failed = true
			fmt.Printf("%-9s FAILED: %v\n", name, err)
		default:
			fmt.Printf("%-9s %s\n", name, said)
		}
	}
	dir, err := os.MkdirTemp("", "laaster-audit-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary := filepath.Join(dir, "laaster")
	step("modules", func() (string, error) { return run(ctx, "go", "mod", "verify") })
	step("licences", func() (string, error) { return checkLicences(ctx) })
	step("build", func() (string, error) { return strings.Join(flags, " "), build(ctx, ".", binary, "") })
	step("materials", func() (string, error) { return writeMaterials(ctx, binary, *sbom) })
	if !*quick {
		step("again", func() (string, error) { return compareBuilds(ctx, binary, dir) })
	}
	step("reports", func() (string, error) { return checkReports(ctx, dir) })
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if failed {
		os.Exit(1)
	}
}

// run runs a command in the project's folder and returns what it printed, or an error with it.
func run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		return said, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, said)
	}
	return said, nil
}
