#!/bin/sh
# Runs every fuzz target for a while: ./test/fuzz.sh [time], 20s by default.
set -eu
cd "$(dirname "$0")/.."
time=${1:-20s}
go list -f '{{.Dir}}' ./... | while read -r dir; do
	grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go 2>/dev/null | cut -d' ' -f2 | while read -r target; do
		echo "$dir $target"
		(cd "$dir" && go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" .)
	done
done
