"""``python -m kit.by_catalogue WORDS``: as ``archiver``, with what is held looked up in the catalogue.

So it is in every large archive; a small one is asked itself.
"""

from archiver.__main__ import main
from archiver.archive import lookup

lookup.PACKS_READ = -1
if __name__ == "__main__":
    main()
