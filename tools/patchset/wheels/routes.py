"""The routes from a series to a wheel, and the official wheel that an overlay starts from."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from patchset.model.component import Base, Component, Packaging, Wheel
from patchset.model.patch import Patch
from patchset.model.series import Series, source_only
from patchset.wheels.sbom import LeftOut
from toolkit.errors import BuildRefused, UsageError

SOURCE_ONLY = "marked `Build-Route: source`"
NOT_SHIPPED = "changes nothing that the wheel ships"


@dataclass(frozen=True)
class Selection:
    """The patches of a series that go into a wheel, and those that do not, by name."""

    patches: tuple[Patch, ...]
    left_out: tuple[LeftOut, ...]


def matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def for_overlay(series: Series, packaging: Packaging) -> Selection:
    """Choose the patches of an overlay.

    Raises:
        BuildRefused: a patch changes what is compiled or generated; every such patch is named.
    """
    obstacles = []
    chosen: list[Patch] = []
    left_out: list[LeftOut] = []
    for patch in series.patches:
        compiled = [path for path in patch.touched if matches(path, packaging.compiled)]
        if source_only(patch):
            left_out.append(LeftOut(patch.name, SOURCE_ONLY))
        elif compiled:
            obstacles.append(f"{patch.name}: changes {', '.join(compiled)}, which is compiled or generated")
        elif not any(matches(path, packaging.packages) for path in patch.touched):
            left_out.append(LeftOut(patch.name, NOT_SHIPPED))
        else:
            chosen.append(patch)
    if obstacles:
        raise BuildRefused(
            f"{series.title} cannot be built as an overlay",
            details=tuple(obstacles),
            remedy="use --route source, or mark the patch `Build-Route: source` to leave it out of overlays",
        )
    return Selection(tuple(chosen), tuple(left_out))


def for_source(series: Series, packaging: Packaging) -> Selection:
    """Return the patches of a source build: all; those that touch nothing of the wheel are named all the same."""
    shipped = (*packaging.packages, *packaging.compiled)
    chosen = tuple(patch for patch in series.patches if any(matches(path, shipped) for path in patch.touched))
    rest = (LeftOut(patch.name, NOT_SHIPPED) for patch in series.patches if patch not in chosen)
    return Selection(chosen, tuple(rest))


def variant_of(component: Component, base: Base, variant: str | None) -> str:
    """Return the variant to build: `variant`, or the base's first.

    A component with a single variant has no choice to make, and takes that one always.

    Raises:
        UsageError: the base has no such variant.
        BuildRefused: it has no official wheel at all.
    """
    known = tuple(dict.fromkeys(wheel.variant for wheel in base.wheels))
    if not known:
        raise BuildRefused(
            f"{component.name} {base.name} records no official wheel",
            remedy="use --route source, or add a [[wheel]] to base.toml",
        )
    if variant is None or len(known) == 1:
        return known[0]
    if variant not in known:
        raise UsageError(
            f"{component.name} {base.name} has no variant {variant!r}", remedy=f"known variants: {', '.join(known)}"
        )
    return variant


def official_wheel(base: Base, variant: str, platform: str | None, here: Sequence[str]) -> Wheel:
    """Return the official wheel of a variant for `platform`, or for this machine.

    `here` are this machine's platform tags, best first (packaging.tags.platform_tags()); `platform` may be a
    whole tag (`manylinux_2_28_aarch64`) or the end of one (`aarch64`).

    Raises:
        UsageError: there is no such wheel.
    """
    wheels = [wheel for wheel in base.wheels if wheel.variant == variant]
    for wheel in wheels:
        if wheel.platform == "any":
            return wheel
        if platform is not None and (wheel.platform == platform or wheel.platform.endswith(f"_{platform}")):
            return wheel
        if platform is None and wheel.platform in here:
            return wheel
    known = ", ".join(wheel.platform for wheel in wheels)
    where = f"platform {platform}" if platform is not None else f"this machine ({here[0] if here else 'unknown'})"
    raise UsageError(
        f"{base.name} has no official wheel of variant {variant} for {where}",
        remedy=f"name a platform (--platform), one of: {known}",
    )
