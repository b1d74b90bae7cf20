"""What the tests of upstreams share: a repository's names, and reading one file of it."""

from __future__ import annotations

REPO = "Org/Model"
WEIGHTS = "model.safetensors-00001-of-00001.safetensors"
TOKEN = "hf_not_for_the_cdn"


def fetch_listed(upstream, listing, path, read, offset=0):
    file = next(file for file in listing.files if file.path == path)
    with upstream.open(listing, file, offset) as stream:
        return read(stream)


def fetch(upstream, read, path=WEIGHTS, offset=0, repository=REPO):
    return fetch_listed(upstream, upstream.list(repository), path, read, offset)
