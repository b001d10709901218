# Laaster. `make` shows the menu.

GO ?= go

.PHONY: help run build test proof oracle bench lint fuzz audit

help: ## this menu
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

run: build ## the show: examples/vote on http://127.0.0.1:8080, with a song contest being voted live
	@./examples/vote/run.sh

build: ## bin/laaster
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-buildid= -o bin/laaster ./cmd/laaster

test: ## everything: vet, staticcheck, all tests with the race detector, browsers, PostgreSQL
	@./test/run.sh

proof: ## kills, power cuts, full disks, failing syncs, damage, planted bugs at full length (docs/reliability.md), about an hour; root
	@LAASTER_FULL=1 LAASTER_SEEDS=20000 $(GO) test -count=1 -timeout 150m -v ./test/sim ./test/ledger ./test/chaos -run "TestHistories|TestLedger|TestPlanted|TestDiskLoses"

oracle: ## thousands of random apps and queries against PostgreSQL, a few minutes
	@LAASTER_SEEDS=10000 $(GO) test -count=1 -timeout 60m ./test/oracle -run "TestOracle|TestNothingStays|TestFunctions"

lint: ## gofmt, go vet, staticcheck, house rules
	@./test/lint.sh

bench: build ## the whole path under an open-loop load, beside a bare append loop
	@$(GO) run ./test/bench

fuzz: ## every fuzz target for 20 seconds
	@./test/fuzz.sh

audit: ## what it is made of: modules, licences, bill of materials, equal builds, known vulnerabilities (LAASTER_VULNDB)
	@$(GO) run ./test/audit
