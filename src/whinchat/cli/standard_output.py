"""Standard output that shows every character, and whose failures are errors with one line."""

import errno
import io
import os
import sys

from whinchat.errors import WhinchatError


class _CheckedFile(io.FileIO):
    """A file of which a failure to write ends the command; whatever is written later is dropped."""

    def write(self, data: bytes) -> int:  # type: ignore[override]  # of which FileIO takes any buffer
        """Write ``data``.

        Raises:
            WhinchatError: the file takes nothing more, as on a full disk.
            SystemExit: the reader of a pipe has seen enough.
        """
        try:
            return super().write(data)
        except OSError as fault:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if fault.errno == errno.EPIPE:
                sys.exit(1)
            raise WhinchatError(f"standard output: cannot be written to ({fault.strerror})") from None


def check_standard_output() -> None:
    """Let standard output report its failures, and show characters that its encoding does not have as escapes.

    Standard error shows such characters so by default. A process without standard output writes nothing.
    """
    if sys.stdout is None:
        sys.stdout = io.StringIO()
    elif isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        sys.stdout.flush()
        raw = _CheckedFile(sys.stdout.fileno(), "w", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
            line_buffering=sys.stdout.line_buffering,
            write_through=sys.stdout.write_through,
        )
