# Everything a person or CI does here. Each target does all of its own set-up; see bin/setup.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
# Tests start hundreds of processes: they read compiled modules, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

# Component tests that run in one process on SQLite, and have to be quick.
COMPONENTS := $(addprefix tests/acceptance/test_,backup.py cli_files.py cli_status.py client_files.py client_sync.py \
	gateway_http.py node_http.py node_side_channel.py node_fast_path.py tracker_commands.py \
	webdav_conversations.py webdav_requests.py)

.PHONY: help setup up check test test-mysql probe test-vm packages bench docs lock clean

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## +/\t/' | expand -t 14

setup: .venv/.ready
.venv/.ready: bin/setup requirements.lock pyproject.toml
	@bin/setup

up: setup        ## run the store in the foreground, its data in ./var/store
	@.venv/bin/tawara up var/store

check: setup     ## under a minute: format, lint, types, import rules, unit tests, the contract and quick components on SQLite
	@.venv/bin/ruff format --check src tests benchmarks deploy
	@.venv/bin/ruff check src tests benchmarks deploy
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache
	@bin/setup-databases
	@# Three processes on two cores: many tests wait for a disk or a socket.
	@$(PY) -m pytest -q -n 3 tests/unit tests/contract $(COMPONENTS) -k 'unit or not (postgresql or mysql)' \
		-m 'not slow and not host_step'

test: check      ## everything: check, the contract on every engine, real processes and clients, failures, machines
	@bin/setup-tests
	@TAWARA_TEST_EXAMPLES=150 $(PY) -m pytest -q -n 2 -m '(hypothesis or slow) and not host_step' tests/unit
	@$(PY) -m pytest -q -n 2 --maxschedchunk 1 tests/contract tests/acceptance tests/probe
	@$(MAKE) --no-print-directory test-vm

test-mysql: setup  ## what concerns the database, on MySQL's own server instead of MariaDB
	@bin/setup-tests
	@TAWARA_TEST_MYSQL="$$(bin/setup-mysql)" $(PY) -m pytest -q -n 2 --maxschedchunk 1 -k mysql tests/contract tests/acceptance tests/probe

probe: setup     ## faults in a cluster under load, as root in namespaces of its own; a table (ENGINE=mysql, FAULT='slow disk')
	@bin/setup-tests
	@$(PY) -m tests.probe.cluster --engine $(or $(ENGINE),postgresql) $(foreach each,$(FAULT),"$(each)")
	@$(if $(FAULT),,TAWARA_PROBE_ALL=1 $(PY) -m pytest -q -n 2 tests/probe/test_killed_in_each_window.py)

test-vm: setup   ## packaged machines for real: build, install by apt and dnf, ssh, upgrade, remove (SLOW=1: Debian guests, too)
	@bin/setup-vm
	@$(PY) -m pytest -q -n 2 tests/unit/vm -m host_step
	@$(PY) -m pytest -q -n 2 --dist loadfile tests/vm $(if $(SLOW),,-m 'not slow')

packages: setup  ## Tawara itself as .deb and .rpm, in a repository: dist/packages (SIGN=KEY: signed by a key of gpg)
	@bin/setup-vm
	@$(PY) -m deploy.packages.build $(if $(SIGN),--sign $(SIGN))

bench: setup     ## measure against the peers; prints ratios
	@bin/setup-vm guestfs-tools mkosi dbus xfsprogs
	@$(PY) -m benchmarks

docs: setup      ## write docs/settings.md from the registries of settings, docs/compatibility.md from the tests
	@$(PY) -m tawara.cli.settings_page > docs/settings.md.new && mv docs/settings.md.new docs/settings.md
	@$(PY) -m tests.acceptance.test_s3_clients > docs/compatibility.md.new && mv docs/compatibility.md.new docs/compatibility.md

lock: setup      ## refresh the lock files from pyproject.toml
	@bin/lock

clean:           ## remove what set-up and runs made (not var/, which holds data)
	@rm -rf .venv .venv-clients .mysql build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
