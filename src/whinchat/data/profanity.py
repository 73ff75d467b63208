"""Find texts with profanity, so that none is chosen to stand as an example."""

import re

# Beginnings of English words, with letters that writers hide. For choosing among texts, and no filter for what people
# may write: a word too many costs nothing but an example.
_PROFANITY = re.compile(
    r"""
    (?<![a-z]) (?:
        f[u*#@][c*#@]?k | f[*#@]{2,} | sh[i!*1]t | b[i!*1]tch | c[u*]nt | n[i*1]gg | fagg?[oe]t | assh[o0*]le
        | ass(?:es)?\b
        | dumbass | jackass | bastard | bollocks | cocks?\b | cocksuck | cum\b | dickhead | dicks?\b | dildo | goddamn
        | motherf | pussy | piss | porn | prick | rape[ds]?\b | rapist | retard | slut | stfu\b | tits\b | twat | wank
        | whore | wtf\b
    )
    | bullshit | fuck
    """,
    re.IGNORECASE | re.VERBOSE,
)


def has_profanity(text: str) -> bool:
    """Return whether an English text has a word that would offend in an example."""
    return _PROFANITY.search(text) is not None
