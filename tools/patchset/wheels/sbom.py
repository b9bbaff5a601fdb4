"""The identity that a wheel carries: a CycloneDX 1.6 document under `.dist-info/sboms/` (PEP 770).

The wheel's component has a pedigree: the official release as its ancestor, and every patch with its text. Values
without a field in CycloneDX stand in properties whose names begin with `patchset:`. The document has no time
and no random serial number, so that the same input gives the same bytes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from patchset.model.patch import Patch
from patchset.model.series import Series, status_of
from toolkit.errors import VerifyFailed

NAME = "sboms/patchset.cdx.json"


@dataclass(frozen=True)
class LeftOut:
    """A patch of the series that the wheel does not hold, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Identity:
    """The origin of a wheel.

    `series` is the series' sha256, `official` file name and sha256 of the prebuilt wheel under an overlay, None
    for a source build; `patches` are (name, sha256 of the patch file) in order.
    """

    component: str
    base: str
    commit: str | None
    series: str
    route: str
    official: tuple[str, str] | None
    patches: tuple[tuple[str, str], ...]
    left_out: tuple[LeftOut, ...]

    def properties(self) -> list[tuple[str, str]]:
        values = [
            ("component", self.component),
            ("base", self.base),
            ("series", self.series),
            ("route", self.route),
        ]
        if self.commit is not None:
            values.append(("commit", self.commit))
        if self.official is not None:
            values.append(("official", " ".join(self.official)))
        # CycloneDX's properties are a set; the number keeps the order of the series.
        values += [(f"patch:{at:04}", f"{name} {digest}") for at, (name, digest) in enumerate(self.patches, 1)]
        values += [(f"left-out:{item.name}", item.reason) for item in self.left_out]
        return [(f"patchset:{name}", value) for name, value in values]


def identity_of(
    series: Series,
    patches: Iterable[Patch],
    left_out: Iterable[LeftOut],
    official: tuple[str, str] | None,
) -> Identity:
    return Identity(
        component=series.component.name,
        base=series.base.name,
        commit=series.base.commit,
        series=series.digest,
        route="source" if official is None else "overlay",
        official=official,
        patches=tuple((patch.name, patch.sha256) for patch in patches),
        left_out=tuple(left_out),
    )


def document(project: str, version: str, upstream_version: str, identity: Identity, patches: Iterable[Patch]) -> bytes:
    """Return the SBOM of a wheel of `project` at `version`, whose release is `upstream_version`.

    `patches` are those that `identity` names, in its order.
    """
    from cyclonedx.model import AttachedText, HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType, Diff, Patch, PatchClassification, Pedigree
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=identity.official[1])] if identity.official else []
    ancestor = Component(
        name=project,
        version=upstream_version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{project}@{upstream_version}",
        purl=PackageURL("pypi", name=project, version=upstream_version),
        hashes=hashes,
    )
    kinds = {"Backport": PatchClassification.BACKPORT}
    pedigree_patches = []
    for patch in patches:
        status = status_of(patch)
        kind = kinds.get(status.status if status else "", PatchClassification.UNOFFICIAL)
        text = AttachedText(content=patch.data.decode("utf-8", errors="replace"), content_type="text/x-diff")
        pedigree_patches.append(Patch(type=kind, diff=Diff(text=text)))
    component = Component(
        name=project,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{project}@{version}",
        purl=PackageURL("pypi", name=project, version=version),
        pedigree=Pedigree(ancestors=[ancestor], patches=pedigree_patches),
        properties=[Property(name=name, value=value) for name, value in identity.properties()],
    )
    bom = Bom(metadata=BomMetaData(component=component), serial_number=uuid.UUID(int=0))
    values: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    # The library stamps the time and sorts patches by their text; we want neither.
    values["metadata"].pop("timestamp", None)
    pedigree = values["metadata"]["component"]["pedigree"]
    order = {patch["diff"]["text"]["content"]: patch for patch in pedigree.get("patches", [])}
    texts = [str(patch.diff.text.content) for patch in pedigree_patches if patch.diff and patch.diff.text]
    pedigree["patches"] = [order[text] for text in texts]
    values["serialNumber"] = "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(values, sort_keys=True)))
    return (json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def parse(data: bytes, where: str) -> Identity:
    """Return the identity that a document holds; `where` names it in errors.

    Raises:
        VerifyFailed: the document is not one of ours.
    """
    try:
        component = json.loads(data)["metadata"]["component"]
        values = {item["name"].removeprefix("patchset:"): item["value"] for item in component["properties"]}
        patches = sorted(key for key in values if key.startswith("patch:"))
        official = values.get("official")
        name, _, digest = (official or "").partition(" ")
        return Identity(
            component=values["component"],
            base=values["base"],
            commit=values.get("commit"),
            series=values["series"],
            route=values["route"],
            official=(name, digest) if official else None,
            patches=tuple((text.split(" ")[0], text.split(" ")[1]) for text in (values[key] for key in patches)),
            left_out=tuple(
                LeftOut(key.removeprefix("left-out:"), value)
                for key, value in values.items()
                if key.startswith("left-out:")
            ),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise VerifyFailed(
            f"{where} cannot be read: {type(error).__name__}: {error}",
            remedy="build the wheel again with `patchset build`",
        ) from error
