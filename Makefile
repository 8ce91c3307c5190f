# semantos: about ten targets. Two commands matter: make run, make test.
GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X semantos/internal/cli.version=$(VERSION)
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'
TIMEOUT  ?= 40m
FUZZTIME ?= 20s

.PHONY: run build test race lint gen bpf soak bench fuzz clean

run: build ## build, then watch this host and serve on 127.0.0.1:9988
	./semantos serve

build: ## one static binary, ./semantos
	$(BUILD) -o semantos .

# One package after another (-p 1): some tests write tunables of this host, others measure it.
test: build lint ## install what the tests need (as root), then run all of them
	scripts/test-deps.sh
	scripts/test.sh -count=1 -p 1 -timeout $(TIMEOUT) ./...

race: ## the tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout $(TIMEOUT) ./...

lint: ## formatting and vet
	@out="$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go'))"; \
	if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...

gen: ## regenerate the reference tables under docs/
	$(GO) run ./internal/gen docs

bpf: ## recompile the probes' C to committed objects (clang, llvm, libbpf-dev, libc6-dev)
	scripts/bpf.sh $(PROBE)

soak: build ## the full counts: hours, root only
	scripts/test-deps.sh
	SOAK=1 scripts/test.sh -count=1 -p 1 -timeout 12h ./...

bench: ## benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz: ## each fuzz target for FUZZTIME
	scripts/fuzz.sh $(FUZZTIME)

clean:
	rm -rf semantos outputs dist
