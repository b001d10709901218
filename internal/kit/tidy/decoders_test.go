package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// decoders names the fuzz target of everything that reads bytes or text from outside of the process, by folder and function; or, after "-", why it needs none.
// Functions with a name like a decoder's must be listed (TestEveryDecoderIsFuzzed finds them); others are when their input comes from clients, disks or backups.
func decoders() map[string]string {
	return map[string]string{
		// from clients
		"internal/wire DecodeClient":          "FuzzDecode",
		"internal/push *inbound.next":         "FuzzInbound", // frames of WebSockets
		"internal/push *Hub.parseRead":        "FuzzRead",
		"internal/push *Hub.parseAfter":       "FuzzRead",
		"internal/push subscriptionQuery":     "FuzzSubscription",
		"internal/ingest *HTTP.ServeHTTP":     "FuzzBodies", // rows, lines and events over HTTP, whole requests
		"internal/ingest *event.read":         "FuzzEvents",
		"internal/ingest *rowDecoder.members": "FuzzRowsAgreeWithStandardLibrary",
		"internal/ingest *scanner.value":      "FuzzScanAgreesWithStandardLibrary",
		"internal/auth takeApart":             "FuzzToken",
		"internal/auth decode64":              "FuzzToken",
		"internal/expr ParseFilter":           "FuzzParseFilter",
		"internal/expr ParseVisible":          "FuzzParseFilter",
		"internal/expr parseArray":            "FuzzArrayText",
		"internal/expr parseCharFormat":       "FuzzFormats",
		"internal/expr parseNumFormat":        "FuzzFormats",
		"internal/expr parseJSONB":            "FuzzFromJSON",
		"internal/expr ParseText":             "FuzzParseText",
		"internal/expr parseInterval":         "FuzzParseText",
		"internal/expr parseNum":              "FuzzParseText",
		"internal/expr scanDecimal":           "FuzzParseText",
		"internal/expr parseBool":             "FuzzParseText",
		"internal/expr parseInt":              "FuzzParseText",
		"internal/expr parseFloat":            "FuzzParseText",
		"internal/expr parseUUID":             "FuzzParseText",
		"internal/expr parseTimestamp":        "FuzzParseText",
		"internal/expr parseFlags":            "FuzzParseText", // with FuzzQuery of test/oracle
		"internal/change ParsePosition":       "FuzzPosition",
		// from servers, by the client and the load tool
		"client parsePosition":    "FuzzPosition",
		"client *Client.Read":     "- it sends; what comes back is read by encoding/json and FuzzFrames",
		"client ReadAs":           "- Client.Read with types",
		"internal/load ReadTrace": "FuzzReadTrace",
		// from issuers
		"internal/auth ParseKeySet": "FuzzJWKS",
		"internal/auth parseKeySet": "FuzzJWKS",
		"internal/auth parseKey":    "FuzzJWKS",
		// from the app
		"internal/sql Compile":            "FuzzCompile",
		"internal/sql/syntax Parse":       "FuzzParse",
		"app ParseSettings":               "FuzzParseSettings",
		"app ParseRate":                   "FuzzParseRate",
		"app ParseTableRate":              "FuzzParseRate",
		"app ParseExempt":                 "- addresses of the settings, read by net/netip",
		"internal/contract decode":        "FuzzSchema",
		"internal/contract refusing.Load": "- refuses everything",
		"internal/auth ParseSigner":       "- a key that `laaster token` has made for development",
		"internal/seal Parse":             "FuzzParse",
		"internal/seal Load":              "FuzzParse",
		"internal/node loadKeys":          "- reads a file for seal.Parse",
		"internal/node ReadSource":        "- reads files for sql.Compile and contract.Compile",
		"internal/load ParseBursts":       "- a flag of `laaster bench`",
		"cmd/laaster parseBefore":         "- a flag of the operator",
		// from disks, logs and backups
		"internal/change ParseBatch":             "FuzzParseBatch",
		"internal/change parseEntry":             "FuzzEntries",
		"internal/change ReadRules":              "FuzzRules",
		"internal/change ReadReject":             "FuzzRules",
		"internal/change ParseCanary":            "FuzzRules",
		"internal/change ParseLogID":             "FuzzRules",
		"internal/expr ReadNode":                 "FuzzReadNode",
		"internal/sql ParseCatalog":              "FuzzParseCatalog",
		"internal/view decodeEpoch":              "FuzzEpoch",
		"internal/flow Load":                     "FuzzRoot",
		"internal/checkpoint parseHeader":        "FuzzEnds",
		"internal/checkpoint parseFooter":        "FuzzEnds",
		"internal/checkpoint parseFrame":         "FuzzFile",
		"internal/checkpoint parseTail":          "FuzzTail",
		"internal/checkpoint parseName":          "- a file name of ours, with its format",
		"internal/checkpoint Ref.Read":           "FuzzFile",
		"internal/checkpoint *Store.scanFolder":  "- lists names",
		"internal/backbone decodeBase":           "FuzzBase",
		"internal/backbone decodeMark":           "FuzzHighWater",
		"internal/backbone parseLineage":         "FuzzLineage",
		"internal/backbone ReadLineage":          "FuzzLineage",
		"internal/backbone OpenFolder":           "- a lock and a number; what it finishes is read by the others",
		"internal/backbone/jetstream parseIndex": "FuzzIndex",
		"internal/backbone/jetstream OpenFiles":  "FuzzRecord",
		"internal/backbone/archive Read":         "FuzzRead",
		"internal/backbone/archive parsePage":    "FuzzRead",
		"internal/backbone/archive parseChunk":   "FuzzRead",
		"internal/audit Verify":                  "FuzzVerify",
		"internal/audit Open":                    "FuzzVerify",
		"internal/audit Read":                    "FuzzVerify",
		"internal/audit parseLine":               "FuzzVerify",
		"internal/audit parseSeal":               "FuzzVerify",
		"internal/seal *Ring.Open":               "FuzzOpen",
		"internal/seal *Ring.OpenInPlace":        "FuzzOpen",
		"internal/node VerifyBackup":             "- reads a file for archive.Read",
		"internal/node *watched.Read":            "- a file that says when its reader is slow",
		"internal/kit/disk OS.Open":              "- opens files",
		"internal/kit/fair *Conn.Read":           "- passes bytes on",
		"internal/kit/fair *Body.Read":           "- passes bytes on",
		"internal/kit/disk/simdisk *Disk.Open":   "- opens files of tests",
		"internal/kit/disk/simdisk *file.ReadAt": "- reads files of tests",
	}
}

var decoderName = regexp.MustCompile(`^(Parse|Decode|Unmarshal|Read|Scan|Open|Verify|Load|parse|decode|unmarshal|scan|load)([A-Z]|$)`)

// TestEveryDecoderIsFuzzed: whatever looks like a decoder is in the list, what is in the list exists, and so does its fuzz target, in the same folder.
func TestEveryDecoderIsFuzzed(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	functions, targets := map[string]bool{}, map[string]bool{} // "folder function"; whether it looks like a decoder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "node_modules", "examples", "test"}, d.Name()):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go":
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := filepath.ToSlash(dir) + " "
			if fn.Recv != nil {
				name += types.ExprString(fn.Recv.List[0].Type) + "."
			}
			if name += fn.Name.Name; strings.HasSuffix(path, "_test.go") {
				targets[name] = true
			} else {
				functions[name] = functions[name] || decoderName.MatchString(fn.Name.Name) && readsBytes(fn.Type)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	listed := decoders()
	for name, decodes := range functions {
		if decodes && listed[name] == "" {
			t.Errorf("%s looks like a decoder: list it in decoders with its fuzz target, or with - and why it needs none", name)
		}
	}
	for name, target := range listed {
		dir, _, _ := strings.Cut(name, " ")
		if _, there := functions[name]; !there {
			t.Errorf("decoders lists %s, which is not there", name)
		}
		if reason, without := strings.CutPrefix(target, "- "); !without && !targets[dir+" "+target] {
			t.Errorf("%s: %s has no fuzz target %s", name, dir, target)
		} else if without && len(reason) < 10 {
			t.Errorf("%s: no reason", name)
		}
	}
}

// readsBytes reports whether a function takes bytes, a text or a reader and may fail.
func readsBytes(f *ast.FuncType) bool {
	has := func(list *ast.FieldList, names ...string) bool {
		return list != nil && slices.ContainsFunc(list.List, func(a *ast.Field) bool { return slices.Contains(names, types.ExprString(a.Type)) })
	}
	return has(f.Params, "[]byte", "string", "io.Reader") && has(f.Results, "error", "bool", "*wire.Problem")
}
