#!/bin/sh
# The whole test suite. Installs what it needs (Chromium, PostgreSQL) where it may: Debian, as root. Where it may not, the tests
# concerned say in one line what they skip and why. With CI=true, or LAASTER_REQUIRE=all, nothing may be skipped.
set -eu
cd "$(dirname "$0")/.."
if [ "${CI:-}" = true ]; then
	export LAASTER_REQUIRE=all
fi
./test/deps.sh
./test/lint.sh
# -count=1: tests that start the real binary would be cached although the binary changed.
go test -race -count=1 -timeout 20m ./...
# What compares with PostgreSQL at random, and the conformance scenarios, are cut short under the race detector and come here at full length.
exec go test -count=1 -timeout 20m ./internal/flow ./internal/sql ./test/oracle ./test/nexmark ./test/conform
