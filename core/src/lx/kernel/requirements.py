"""What distributions say about themselves, and what they require compared with what is installed; all from metadata."""

import re
from collections.abc import Callable, Iterable
from typing import Any

_AT_LEAST = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)\s*>=\s*(?P<bound>[0-9]+(?:\.[0-9]+)*)$")
_RELEASE = re.compile(r"^(?P<release>[0-9]+(?:\.[0-9]+)*)(?:\+.*)?$")


def describe(dist: Any) -> tuple[str, str, tuple[str, ...]]:
    """Name, version and requirements of a distribution of importlib_metadata; `"?"` for what a damaged installation does not tell.

    Only the header of METADATA is read: importlib_metadata parses the whole description, three times for these three, which for
    thirty plugins costs more than all else that happens before a run.
    """
    try:
        text = dist.read_text("METADATA") if dist else ""
        if dist and text is None:  # an egg-info, which keeps its requirements in another file
            return dist.name, dist.version, tuple(dist.requires or ())
    except Exception:  # whatever is wrong with one installation must not hide the others
        text = ""
    fields = [line.partition(": ") for line in (text or "").partition("\n\n")[0].splitlines()]
    first = {key: value for key, _, value in reversed(fields)}
    return first.get("Name", "?"), first.get("Version", "?"), tuple(value for key, _, value in fields if key == "Requires-Dist")


def installed_version(name: str) -> str | None:
    """The version of an installed distribution, None if it is not there."""
    from importlib_metadata import Distribution  # noqa: PLC0415 -- `import lx` need not pay for it

    # Not importlib_metadata.distribution, which parses the METADATA of what it finds.
    found = next(iter(Distribution.discover(name=name)), None)
    return None if found is None else describe(found)[1]


def unmet_requirements(requires: Iterable[str], version_of: Callable[[str], str | None] = installed_version) -> list[str]:
    """One sentence for each requirement that is missing or has the wrong version; extras and markers are obeyed.

    >>> unmet_requirements(["pluggy>=1.5", "no-such-package>=2", "pluggy>=900; python_version < '3'"])
    ['it requires no-such-package>=2, which is not installed']
    """
    return [sentence for text in requires if not _plainly_met(text, version_of) and (sentence := _unmet(text, version_of))]


def _plainly_met(text: str, version_of: Callable[[str], str | None]) -> bool:
    """Whether this is a lower bound between plain releases, as nearly all are, and met; anything else is left to packaging."""
    wanted = _AT_LEAST.match(text)
    installed = _RELEASE.match(version_of(wanted["name"]) or "") if wanted else None
    return bool(wanted and installed and _release(installed["release"]) >= _release(wanted["bound"]))


def _release(version: str) -> tuple[int, ...]:
    numbers = [int(number) for number in version.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:  # 2.0 and 2 are one version
        numbers.pop()
    return tuple(numbers)


def _unmet(text: str, version_of: Callable[[str], str | None]) -> str:
    # Imported here: it costs a run 25 ms, and few runs have a requirement that is not plainly met.
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415
    from packaging.version import InvalidVersion  # noqa: PLC0415

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return f"its metadata states the requirement {text!r}, which cannot be read"
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return ""
    wanted = f"{requirement.name}{requirement.specifier}"
    installed = version_of(requirement.name)
    if installed is None:
        return f"it requires {wanted}, which is not installed"
    try:
        fits = requirement.specifier.contains(installed, prereleases=True)
    except InvalidVersion:
        fits = False
    return "" if fits else f"it requires {wanted}, and {installed} is installed"
