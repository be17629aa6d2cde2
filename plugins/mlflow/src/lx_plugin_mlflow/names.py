"""Names that MLflow takes for metrics and parameters."""

import re

_REFUSED = re.compile(r"[^\w/. -]+")


def legal(name: str) -> str:
    """A name without what MLflow refuses: most punctuation, and parts of a path that lead elsewhere.

    The colon is taken by some stores only, and goes, too.

    >>> legal("acc@1 (top-5)"), legal("val//../loss"), legal("")
    ('acc1 top-5', 'val/loss', '_')
    """
    parts = _REFUSED.sub("", name).split("/")
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "_"
