package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
)

// The bill of materials in the form of CycloneDX 1.6, as far as a Go binary has something to say. It has neither a time nor a serial number, so that equal
// binaries have equal bills.
type (
	bill struct {
		Format       string       `json:"bomFormat"`
		Spec         string       `json:"specVersion"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Component  component  `json:"component"`
		Properties []property `json:"properties"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version,omitempty"`
		PURL       string     `json:"purl,omitempty"`
		Licences   []licensed `json:"licenses,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	licensed struct {
		Licence struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn"`
	}
)

// materials reads what a binary says it was built of. licences has the licence of each module by its path.
func materials(binary string, licences map[string]string) (*bill, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", binary, err)
	}
	b := &bill{Format: "CycloneDX", Spec: "1.6", Version: 1}
	b.Metadata.Component = component{Type: "application", Ref: info.Main.Path, Name: path.Base(info.Path), Version: info.Main.Version}
	for _, s := range info.Settings {
		b.Metadata.Properties = append(b.Metadata.Properties, property{"go:" + s.Key, s.Value})
	}
	add := func(name, version string, more ...property) {
		c := component{Type: "library", Name: name, Version: version, PURL: "pkg:golang/" + name + "@" + version, Properties: more}
		c.Ref = c.PURL
		if id := licences[name]; id != "" {
			var l licensed
			l.Licence.ID = id
			c.Licences = []licensed{l}
		}
		b.Components = append(b.Components, c)
	}
	add("std", strings.TrimPrefix(info.GoVersion, "go"))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		add(m.Path, m.Version, property{"go:sum", m.Sum})
	}
	d := dependency{Ref: info.Main.Path}
	for _, c := range b.Components {
		d.DependsOn = append(d.DependsOn, c.Ref)
	}
	b.Dependencies = []dependency{d}
	return b, nil
}

// writeMaterials prints the bill of a binary, or writes it to a file.
func writeMaterials(ctx context.Context, binary, file string) (string, error) {
	mods, err := modules(ctx)
	if err != nil {
		return "", err
	}
	licences := map[string]string{"std": "BSD-3-Clause"}
	for _, m := range mods {
		if licences[m.Path], err = m.licence(); err != nil {
			return "", err
		}
	}
	b, err := materials(binary, licences)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(b); err != nil {
		return "", err
	}
	said := fmt.Sprintf("%d modules and the standard library are in the binary", len(b.Components)-1)
	if file == "" {
		return said + "\n" + out.String(), nil
	}
	return said + ", see " + file, os.WriteFile(file, out.Bytes(), 0o644)
}
