"""Compares what a distribution requires with what is installed, from metadata alone."""

from collections.abc import Iterable


def unmet_requirements(requires: Iterable[str]) -> list[str]:
    """One sentence for each requirement that is missing or has the wrong version; extras and markers are obeyed.

    >>> unmet_requirements(["pluggy>=1.5", "no-such-package>=2", "pluggy>=900; python_version < '3'"])
    ['it requires no-such-package>=2, which is not installed']
    """
    # Imported here: a process that loads no component needs neither.
    from importlib_metadata import PackageNotFoundError, version  # noqa: PLC0415
    from packaging.requirements import Requirement  # noqa: PLC0415

    unmet = []
    for requirement in map(Requirement, requires):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            unmet.append(f"it requires {wanted}, which is not installed")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            unmet.append(f"it requires {wanted}, and {installed} is installed")
    return unmet
