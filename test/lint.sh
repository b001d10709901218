#!/bin/sh
# gofmt, go vet, staticcheck and the house rules.
set -eu
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l app client cmd internal sdk examples test)
if [ -n "$unformatted" ]; then
	echo "not formatted with gofmt:" && echo "$unformatted"
	exit 1
fi
go vet ./...
go tool staticcheck ./...
go test ./internal/kit/tidy
