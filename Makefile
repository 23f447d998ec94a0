# Every target works on a fresh clone with Go, git and make; what else one
# needs it fetches itself or names ("infrastructure missing: …", exit 69).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export PATH := $(PATH):/usr/local/go/bin

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
CACHE   := $(CURDIR)/.cache

# Parameters of the targets below, on the command line: make soak PROFILE=25.
PROFILE  ?= 50
DURATION ?= 2m
ROUNDS   ?= 50
ONLY     ?=
PKG      ?= ./actors/supervise
# Storage engine: sqlite, postgres or redis, with private servers. Empty is
# sqlite, and for make chaos all of them.
STORE    ?=
TIME     ?= 2m
COMPARE  ?= 3
# Packages tested at once, and tests of one package: two fit two cores.
JOBS     ?= 2

.PHONY: help build run test check format-check vet lint dead-check generate generated-check tidy-check mutants-check security verify-release mutants mutate live soak chaos hostile attack fuzz bench bench-compare clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

build: ## build bin/dash
	@test -e bin/dash || echo "building; the first time takes a minute or two"
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/dash ./cmd/dash

run: build ## build and start a playground: three simulated gateways, API on 127.0.0.1:7373
	@exec bin/dash serve --dev

test: build ## run every test with the race detector; ends with "N passed, N failed, N skipped"
	@.ci/test $(JOBS)

check: format-check vet lint dead-check generated-check tidy-check mutants-check ## format, vet, lint, dead code, generated code and planted bugs up to date

format-check:
	@files=$$(gofmt -l $$(go list -f '{{.Dir}}' ./...) | sort -u); \
	if [ -n "$$files" ]; then echo "not formatted, run gofmt -w on:"; echo "$$files"; exit 1; fi

vet:
	go vet ./...
	go -C soak/bench vet ./...

lint:
	@.ci/need golangci-lint
	$(CACHE)/bin/golangci-lint run --timeout 10m ./...
	cd soak/bench && $(CACHE)/bin/golangci-lint run --timeout 10m ./...

dead-check:
	@.ci/deadcode

generate: ## write generated code anew
	@.ci/need protoc protoc-gen-go
	PATH="$(CACHE)/bin:$$PATH" go generate ./...

# The generators run on a copy, so that a check never changes the working tree.
generated-check:
	@.ci/need protoc protoc-gen-go
	@.ci/generated

tidy-check:
	go mod tidy -diff

mutants-check:
	@go run ./cmd/internal/mutants -check

security: ## look for secrets, dangerous code and known holes (GOVULNDB=copy of the data); what is accepted stands in .ci/accepted
	@.ci/security

verify-release: ## security, and two builds that are the same: bin/release/dash
	@.ci/release '$(VERSION)' '$(LDFLAGS)'

mutants: ## plant the bugs of mutants/ one by one, say which no test notices, resumable: ONLY=pattern JOBS=2
	@.ci/need postgres redis
	CGO_ENABLED=0 GOFLAGS=-trimpath go run ./cmd/internal/mutants -jobs $(JOBS) -only '$(ONLY)'

mutate: ## let gremlins make mutants of PKG=./actors/supervise by itself: a source of ideas, minutes per package
	go run github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0 unleash --workers 1 $(PKG)

live: build ## run real tasks on real OpenClaw gateways with a local fake model (installs OpenClaw into .cache)
	@$(if $(filter postgres redis,$(STORE)),.ci/need postgres redis,true)
	@DASH_TEST_STORE='$(STORE)' .ci/live

soak: build ## drive simulated gateways and draw a report: PROFILE=10|20|25|50|100|10k DURATION=2m STORE=sqlite
	@$(if $(filter postgres redis,$(STORE)),.ci/need postgres redis,true)
	CGO_ENABLED=0 go build -trimpath -o bin/soak ./soak/cmd/soak
	bin/soak --dash bin/dash --store '$(or $(STORE),sqlite)' --profile $(PROFILE) --duration $(DURATION) --out soak/out

chaos: build ## crash and fault tests at full counts, resumable: ROUNDS=50 ONLY=name STORE=sqlite
	@$(if $(filter sqlite,$(STORE)),true,.ci/need postgres redis)
	CGO_ENABLED=0 go build -trimpath -o bin/soak ./soak/cmd/soak
	bin/soak chaos --dash bin/dash --rounds $(ROUNDS) --only '$(ONLY)' --store '$(STORE)' --out chaos/out

hostile: build ## a gateway that attacks its node, and what that costs: DURATION=10m
	CGO_ENABLED=0 go build -trimpath -o bin/soak ./soak/cmd/soak
	bin/soak hostile --dash bin/dash --duration $(if $(findstring file,$(origin DURATION)),10m,$(DURATION))

attack: build ## clients that attack a node, and what honest ones notice: DURATION=1m ROUNDS=3
	CGO_ENABLED=0 go build -trimpath -o bin/soak ./soak/cmd/soak
	bin/soak attack --dash bin/dash --steady 1000 --duration $(if $(findstring file,$(origin DURATION)),1m,$(DURATION)) --rounds $(if $(findstring file,$(origin ROUNDS)),3,$(ROUNDS))

fuzz: ## run every fuzz target for TIME=2m each
	@.ci/fuzz $(TIME)

bench: build ## benchmarks, after the disk's own fsync p99
	@.ci/bench

bench-compare: ## Dash beside asynq and River on the same private servers: COMPARE=3 rounds, ONLY=pattern of rows
	@.ci/need postgres redis
	CGO_ENABLED=0 go build -trimpath -o bin/benchnode ./cmd/internal/benchnode
	go -C soak/bench test ./...
	CGO_ENABLED=0 go -C soak/bench build -trimpath -o ../../bin/bench .
	bin/bench --dash bin/benchnode --rounds $(COMPARE) --only '$(ONLY)'

clean: ## remove what was built
	rm -rf bin
