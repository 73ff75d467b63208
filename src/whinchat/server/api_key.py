"""Where the server's key comes from: the environment or a file, and never an argument, which every user can see."""

import os
from collections.abc import Mapping
from pathlib import Path

from whinchat.errors import WhinchatError

API_KEY_VARIABLE = "WHINCHAT_API_KEY"


def read_api_key(variable: str | None, file: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the key that every request must have; None where none is set.

    Args:
        variable: the environment variable that holds the key; None for WHINCHAT_API_KEY, which need not be set.
        file: a file that holds the key alone, such as a secret of the container.
        environment: the environment.

    Raises:
        WhinchatError: both are given, the variable is not set, the file cannot be read, or its key cannot be used.
    """
    if variable is not None and file is not None:
        raise WhinchatError("--api-key-env and --api-key-file: exclude each other; choose one")
    if file is not None:
        where = str(file)
        try:
            key = file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as fault:
            reason = getattr(fault, "strerror", None) or "is not UTF-8"
            raise WhinchatError(f"{file}: the key cannot be read ({reason}); give a file that holds the key") from None
    else:
        where = variable or API_KEY_VARIABLE
        if where not in environment:
            if variable is None:
                return None
            raise WhinchatError(f"{variable}: there is no such environment variable; set it to the key")
        key = environment[where]
    check_api_key(key, where)
    return key


def check_api_key(key: str, where: str) -> None:
    """Refuse a key from ``where`` that is empty or cannot be sent in a header.

    Raises:
        WhinchatError: it is.
    """
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise WhinchatError(
            f"{where}: the key is empty or has characters other than visible ASCII; make one with "
            '`python -c "import secrets; print(secrets.token_urlsafe())"`'
        )
