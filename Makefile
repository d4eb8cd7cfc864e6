# The front door. Each target is one line of intent; the work is in tools/, which says what it does
# and, when something is missing, what would cure it. PYTHON=... chooses the interpreter.
export PYTHON ?=
export PYTHONUNBUFFERED = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench bench-policy bench-web bench-secrets bench-scan bench-log bench-tls soak docs clean
.NOTPARALLEL:

help:   ## list these targets
	@sed -n 's/^\([a-z-]*\):  *## /make \1	/p' Makefile | expand -t 20

demo:   ## move files and a form through the gate by FTP and HTTP, and show the verdicts; then look around in its console until Ctrl-C
	@tools/setup demo && .venv/bin/sluicegate demo

test:   ## run every test; those that open a port on the io_uring backend, and again on epoll
	@tools/setup test && tools/test

check:  ## format, lint, layers, types (mypy and pyright), docs: what CI checks, fastest first
	@tools/setup dev && tools/check

bench:  ## measure against haproxy and nginx (minutes; as root it installs them)
	@tools/setup bench && .venv/bin/python -m benchmarks

bench-policy: ## measure what a decision costs with 10, 1,000 and 10,000 rules (a minute)
	@tools/setup dev && .venv/bin/python -m benchmarks.policy

bench-secrets: ## measure how fast secrets are looked for, beside Python's re and what else is installed (a minute)
	@tools/setup dev && .venv/bin/python -m benchmarks.secrets

bench-scan: ## measure how fast scanner processes look through objects and archives (a minute)
	@tools/setup dev && .venv/bin/python -m benchmarks.scan

bench-log: ## measure how fast records are stored, and what questions cost with ten million of them (ten minutes, ten gigabytes)
	@tools/setup dev && .venv/bin/python -m benchmarks.log

bench-tls: ## measure TLS that is opened, beside squid-openssl and mitmproxy (a quarter of an hour; as root it installs what it needs)
	@tools/setup bench && .venv/bin/python -m benchmarks.inspection

bench-web: ## measure requests and held bodies through the web proxy, beside squid, mitmproxy and squid with c-icap (a quarter of an hour)
	@tools/setup bench && .venv/bin/python -m benchmarks.web

soak:   ## ten minutes (SOAK_S=600) of mixed traffic with workers killed and reloads: nothing may leak
	@tools/setup dev && .venv/bin/python -m benchmarks.soak

docs:   ## build the documentation into docs/_build/html; a dead reference is an error
	@tools/setup dev && tools/docs

setup:  ## make .venv fit for development: tests, linters, documentation
	@tools/setup dev

clean:  ## remove what these targets made, the environment included
	@rm -rf .venv build docs/_build docs/reference/generated .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
