"""Texts of remote systems and of strangers' code, made fit for our tables."""


def fit(text: str, *, characters_max: int) -> str:
    """`text` without what PostgreSQL refuses (NUL, lone surrogates), cut to at most `characters_max` characters."""
    clean = text.encode("utf-8", "replace").decode().replace("\x00", "")
    return clean if len(clean) <= characters_max else clean[: characters_max - 1] + "…"
