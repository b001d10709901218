package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// allowed are the licences that a module may have: what is linked with Laaster may be used, changed and passed on with nothing but a notice.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}

// excepted are modules with another licence, and why that is no matter.
func excepted() map[string]string {
	return map[string]string{
		"pgregory.net/rapid": "MPL-2.0", // asks for changed files of its own; it is used unchanged, by tests alone, and is in no binary
	}
}

// module is a module of which packages are built or tested, as the go command lists it.
type module struct {
	Path, Version, Dir string
	Main               bool
}

// modules returns the modules of which packages are part of what is built, of its tests and of its tools, without the project itself.
func modules(ctx context.Context) ([]module, error) {
	var out, said bytes.Buffer
	for _, args := range [][]string{{"-test", "./..."}, {"tool"}} {
		cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-deps", "-json=Module"}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("go list: %w\n%s", err, said.Bytes())
		}
	}
	found := map[string]module{}
	for d := json.NewDecoder(&out); ; {
		var p struct{ Module *module }
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if p.Module != nil && !p.Module.Main {
			found[p.Module.Path] = *p.Module
		}
	}
	var mods []module
	for _, m := range found {
		mods = append(mods, m)
	}
	slices.SortFunc(mods, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return mods, nil
}

// checkLicences refuses modules without a licence of the list.
func checkLicences(ctx context.Context) (string, error) {
	mods, err := modules(ctx)
	if err != nil {
		return "", err
	}
	counts := map[string]int{}
	var all []error
	for _, m := range mods {
		id, err := m.licence()
		if err == nil && !slices.Contains(allowed, id) && excepted()[m.Path] != id {
			err = fmt.Errorf("%s %s: %s is not one of %s", m.Path, m.Version, id, strings.Join(allowed, ", "))
		}
		if err != nil {
			all = append(all, err)
		}
		counts[id]++
	}
	said := fmt.Sprintf("%d modules:", len(mods))
	for _, id := range allowed {
		said += fmt.Sprintf(" %s %d", id, counts[id])
	}
	for path, id := range excepted() {
		said += fmt.Sprintf(", %s of %s by exception", id, path)
	}
	return said, errors.Join(all...)
}

// licence reads the licence in a module's folder.
func (m module) licence() (string, error) {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", m.Path, m.Version, err)
	}
	for _, e := range entries {
		name := strings.ToUpper(strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())))
		if name != "LICENSE" && name != "LICENCE" && name != "COPYING" && name != "UNLICENSE" || e.IsDir() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(m.Dir, e.Name()))
		if err != nil {
			return "", err
		}
		return identify(string(text)), nil
	}
	return "", fmt.Errorf("%s %s has no licence file", m.Path, m.Version)
}

// identify names the licence of a text by its SPDX identifier; "unknown" for others than the everyday ones. A text with a licence that takes more than a notice
// is named by that, whatever else is in it.
func identify(text string) string {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case has("mozilla public license version 2.0"): // its text names the GNU licences
		return "MPL-2.0"
	case has("gnu affero general public license"):
		return "AGPL"
	case has("gnu lesser general public license"), has("gnu library general public license"):
		return "LGPL"
	case has("gnu general public license"):
		return "GPL"
	case has("business source license"):
		return "BUSL"
	case has("server side public license"):
		return "SSPL"
	case has("apache license") && has("version 2.0"):
		return "Apache-2.0"
	case has("permission is hereby granted, free of charge") && has("the above copyright notice and this permission notice"):
		return "MIT"
	case has("redistribution and use in source and binary forms") && has("redistributions in binary form must reproduce"):
		if has("neither the name") || has("may not be used to endorse") {
			return "BSD-3-Clause"
		}
		return "BSD-2-Clause"
	case has("permission to use, copy, modify, and/or distribute this software for any purpose"), has("permission to use, copy, modify, and distribute this software for any purpose"):
		return "ISC"
	}
	return "unknown"
}
