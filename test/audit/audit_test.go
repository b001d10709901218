package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if err := os.Chdir(filepath.Join("..", "..")); err != nil { // as `make audit` runs
		panic(err)
	}
	os.Exit(m.Run())
}

// TestLicences: every module that is built, tested with or used as a tool has a licence of the list.
func TestLicences(t *testing.T) {
	said, err := checkLicences(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(said)
}

// TestPinned: every module of go.mod has a version and digests in go.sum, and none is replaced by something else.
func TestPinned(t *testing.T) {
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	mods, err := modules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mods {
		if !bytes.Contains(sums, []byte(m.Path+" "+m.Version+" h1:")) {
			t.Errorf("%s %s is not in go.sum", m.Path, m.Version)
		}
	}
	if len(mods) < 20 {
		t.Errorf("only %d modules found", len(mods))
	}
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "replace ") {
			t.Errorf("go.mod: %s", line)
		}
	}
}

func TestIdentify(t *testing.T) {
	const bsd = "Redistribution and use in source and binary forms, with or without\nmodification. Redistributions in binary form must reproduce the above."
	for text, want := range map[string]string{
		"Permission is hereby granted, free of\n charge, to any person. The above copyright notice and this permission notice shall": "MIT",
		bsd: "BSD-2-Clause",
		bsd + " Neither the name of the copyright holder":                                                      "BSD-3-Clause",
		"Apache License\n   Version 2.0, January 2004":                                                         "Apache-2.0",
		"Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee": "ISC",
		"GNU GENERAL PUBLIC LICENSE Version 3":                                                                 "GPL",
		"dual: Apache License Version 2.0, or GNU General Public License v2":                                   "GPL",
		"Mozilla Public License Version 2.0; secondary: GNU General Public License":                            "MPL-2.0",
		"All rights reserved.": "unknown",
		"":                     "unknown",
	} {
		if got := identify(text); got != want {
			t.Errorf("%.40q: %s, want %s", text, got, want)
		}
	}
	none := module{Path: "example.org/none", Version: "v1.0.0", Dir: t.TempDir()}
	if _, err := none.licence(); err == nil {
		t.Error("a module without a licence passes")
	}
}

// TestMaterials: the bill of a binary names all that the binary says it has, with licences, and is the same each time.
func TestMaterials(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "sbom.json")
	if _, err := writeMaterials(t.Context(), self, file); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b bill
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		t.Fatal(err)
	}
	if b.Format != "CycloneDX" || b.Spec != "1.6" || len(b.Components) != len(info.Deps)+1 {
		t.Errorf("%s %s with %d components, want %d", b.Format, b.Spec, len(b.Components), len(info.Deps)+1)
	}
	for _, m := range info.Deps {
		if !slices.ContainsFunc(b.Components, func(c component) bool { return c.PURL == "pkg:golang/"+m.Path+"@"+m.Version }) {
			t.Errorf("%s is missing", m.Path)
		}
	}
	if _, err := materials("go.mod", nil); err == nil {
		t.Error("a bill of something that is no binary")
	}
}

// TestBuildsAreEqual: two builds of the same sources in two folders are equal byte for byte; with LAASTER_FULL every package is compiled twice.
func TestBuildsAreEqual(t *testing.T) {
	dir := t.TempDir()
	first, second, there := filepath.Join(dir, "first"), filepath.Join(dir, "second"), filepath.Join(dir, "elsewhere", "project")
	cache := ""
	if os.Getenv("LAASTER_FULL") != "" {
		cache = filepath.Join(dir, "cache")
	}
	if err := copySources(".", there); err != nil {
		t.Fatal(err)
	}
	if err := build(t.Context(), there, first, ""); err != nil { // the copy first: nobody edits it meanwhile
		t.Fatal(err)
	}
	again := filepath.Join(dir, "another", "folder", "project")
	if err := copySources(there, again); err != nil {
		t.Fatal(err)
	}
	if err := build(t.Context(), again, second, cache); err != nil {
		t.Fatal(err)
	}
	said, err := sameFiles(first, second)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(said)
	info, err := buildinfo.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if id := excepted()[m.Path]; id != "" {
			t.Errorf("%s is in the binary; its licence, %s, is excepted for tests alone", m.Path, id)
		}
	}
	data, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(dir)) {
		t.Error("the binary names the folder that it was built in")
	}
	if err := os.WriteFile(second, append(data, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := sameFiles(first, second); err == nil {
		t.Error("a byte more is not noticed")
	}
}

// TestDatabase: the database is found as a folder or packed, one that is named and absent is an error, and names in an archive lead nowhere else.
func TestDatabase(t *testing.T) {
	dir := t.TempDir()
	report := filepath.Join(dir, "db", "osv", "GO-2026-0001.json")
	if err := os.MkdirAll(filepath.Dir(report), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(report, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(dir, "db.tar.gz")
	pack(t, packed, map[string]string{"data/osv/GO-2026-0002.json": "{}", "../../GO-2026-0003.json": "{}", "../../evil.json": "{}"})
	for _, c := range []struct {
		from string
		want int
		ok   bool
	}{{filepath.Join(dir, "db"), 1, true}, {packed, 2, true}, {filepath.Join(dir, "absent"), 0, false}, {t.TempDir(), 0, false}} {
		t.Setenv("LAASTER_VULNDB", c.from)
		temp := filepath.Join(t.TempDir(), "a", "b")
		if err := os.MkdirAll(temp, 0o755); err != nil {
			t.Fatal(err)
		}
		_, n, err := database(temp)
		if n != c.want || (err == nil) != c.ok {
			t.Errorf("%s: %d reports, %v", c.from, n, err)
		}
		if found, _ := filepath.Glob(filepath.Join(temp, "..", "*.json")); len(found) > 0 {
			t.Errorf("%s: written outside: %v", c.from, found)
		}
	}
}
