# Evenkeel. `make demo` shows the main job on this machine, `make test` is the newcomer's check; the rest is for builders.
# One set of build flags everywhere: a second set compiles everything again.
SHELL := /bin/bash
.DEFAULT_GOAL := build
export CGO_ENABLED := 0
export GOFLAGS := -buildvcs=false -trimpath

VERSION  ?= 0.1.0-dev
LDFLAGS  := -s -w -X github.com/evenkeel/evenkeel/pkg/version.Version=$(VERSION)
TOOL     := go tool -modfile=.ci/tools/go.mod
SOURCES  := go.mod go.sum $(shell find agent collector pkg proto scripts -name '*.go' -not -name '*_test.go' -o -name '*.yaml' -path '*collector*' 2>/dev/null)
PROGRAMS := evenkeel-agent evenkeel-actor evenkeel-collector evenkeel
DEMO     := evenkeel-demo demo-server demo-batch
NAME     ?=
FUZZTIME ?= 5s
FUZZIN   ?=
CHECKS   ?= 2000

where_evenkeel-agent     := ./agent/cmd/evenkeel-agent
where_evenkeel-actor     := ./agent/cmd/evenkeel-actor
where_evenkeel-collector := ./collector/cmd/evenkeel-collector
where_evenkeel           := ./collector/cmd/evenkeel
where_evenkeel-demo      := ./scripts/demo
where_demo-server        := ./scripts/demo/server
where_demo-batch         := ./scripts/demo/batch

.PHONY: build demo test race property lint proto proto-check bench figure fuzz e2e soak check clean

build: $(addprefix bin/,$(PROGRAMS)) ## the four binaries, in bin/

# A binary that is newer than every source is left alone.
bin/%: $(SOURCES)
	@mkdir -p bin
	@echo "building $@"
	@go build -ldflags '$(LDFLAGS)' -o $@ $(where_$*)

demo: $(addprefix bin/,$(PROGRAMS) $(DEMO)) ## the whole loop on this machine, in under 90 seconds
	@bin/evenkeel-demo

test: ## L0-L2: no root, no network
	go test ./...

race: ## the same tests under the race detector
	CGO_ENABLED=1 go test -race ./agent/... ./pkg/... ./collector/...

property: ## every algorithm against its oracle on thousands of random instances: make property CHECKS=2000
	@scripts/property $(CHECKS)

lint: ## formatting, vet, staticcheck, house rules
	@scripts/lint

proto: ## generate from proto/
	cd proto && go tool -modfile=../.ci/tools/go.mod buf lint && go tool -modfile=../.ci/tools/go.mod buf generate

proto-check: proto ## fail if the committed code differs from what is generated
	@git diff --exit-code --stat -- proto || { echo "proto: generated code differs from what is committed: run make proto and commit"; exit 1; }

bench: ## benchmarks of the hot paths
	go test -run '^$$' -bench . -benchtime 1s ./pkg/... ./agent/... ./collector/...

figure: build $(addprefix bin/,$(DEMO)) ## make figure NAME=wire-bytes; without NAME: all of them
	@scripts/figure/run $(NAME)

fuzz: ## every fuzz target for FUZZTIME each; FUZZIN="pkg agent" narrows it
	@scripts/fuzz $(FUZZTIME) $(FUZZIN)

e2e: build $(addprefix bin/,$(DEMO)) ## L3: real binaries with real parts, as root on Debian
	@scripts/e2e/run

soak: build $(addprefix bin/,$(DEMO)) ## random kills for an hour: make soak ROUNDS=300
	@scripts/soak/run

check: ## everything that CI does, each stage timed
	@scripts/check

clean:
	rm -rf bin .state
