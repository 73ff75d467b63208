"""Download one archive from the user's index with pip's own settings, and run nothing of what was downloaded.

``pip download`` builds the metadata of a source archive, which runs the archive's code before any of it was checked,
and pip has no option against this. ``FetchCommand`` therefore follows pip's command up to the choice of the file, so
that index, proxy, certificates and credentials are the user's, and then only writes that file to a folder.

This file is a script for a process of its own, without the current folder, ``PYTHONPATH`` and the user's site folder
(``python -I``)::

    python -I fetch_archive.py MAX_BYTES [options of pip download] --dest FOLDER REQUIREMENT
"""

import sys
from collections.abc import Iterable
from optparse import Values
from pathlib import Path

from pip._internal.commands.download import DownloadCommand
from pip._internal.exceptions import DistributionNotFound, NetworkConnectionError
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.requests import RequestException

_CHUNK_BYTES = 1 << 20


class FetchCommand(DownloadCommand):
    """``pip download`` without the build that finds out the metadata of a source archive."""

    max_bytes: int

    def run(self, options: Values, args: list[str]) -> int:
        """Write the best file for the requirement to the folder ``--dest``; return 0."""
        requirement = Requirement(args[0])
        session = self.get_default_session(options)
        finder = self._build_package_finder(options=options, session=session)
        best = finder.find_best_candidate(requirement.name, requirement.specifier).best_candidate
        if best is None:
            raise DistributionNotFound(f"No matching distribution found for {requirement}")
        target = Path(options.download_dir) / Path(best.link.filename).name
        try:
            # The archive as the index keeps it: no transfer encoding may change its bytes.
            with session.get(
                best.link.url_without_fragment, headers={"Accept-Encoding": "identity"}, stream=True
            ) as answer:
                answer.raise_for_status()
                self._write(answer.iter_content(_CHUNK_BYTES), target)
        except RequestException as fault:
            raise NetworkConnectionError(str(fault)) from fault
        return 0

    def _write(self, chunks: Iterable[bytes], target: Path) -> None:
        room = self.max_bytes
        with target.open("wb") as out:
            for chunk in chunks:
                room -= len(chunk)
                if room < 0:
                    raise NetworkConnectionError(f"{target.name} has more than {self.max_bytes:,} bytes")
                out.write(chunk)


if __name__ == "__main__":
    command = FetchCommand("download", "Download one archive and run nothing of it.")
    command.max_bytes = int(sys.argv[1])
    sys.exit(command.main(sys.argv[2:]))
