"""Takes a container image's reference apart, in every form that KubeArmor writes.

KubeArmor joins a pod's `status.image` with what stands behind the `@` of `status.imageID`, or with all of that where it
holds no `@`: so a digest may come twice, without its `@`, with a runtime's scheme before it, or instead of a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from otelbridge.mapping.wire import Attribute

_RUNTIME = "(?:docker|docker-pullable|containerd|cri-o)://"
_LAST_DIGEST = re.compile(
    rf"(?P<before>@|{_RUNTIME})?(?P<digest>(?:sha256|sha384|sha512|blake3):[0-9a-fA-F]{{32,128}})$"
)
_SCHEME = re.compile(f"^{_RUNTIME}")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_BARE_ID = re.compile(r"(?<!:)[0-9a-f]{64}$")  # CRI-O's image ids have no algorithm before them
MAX_DIGESTS = 4


class Image(NamedTuple):
    """The parts that the reference has; empty where it has none."""

    name: str
    tag: str
    digests: tuple[str, ...]
    """Of manifests, each behind an `@`, in the order of the reference."""
    id: str
    """Of the image itself, which stands for its configuration: no registry can be asked for it."""

    def text(self) -> str:
        """The reference, put together again."""
        return self.name + (f":{self.tag}" if self.tag else "") + "".join(f"@{digest}" for digest in self.digests)


def parse_image(reference: str) -> Image:
    """The parts of an image's reference; never fails."""
    digests: list[str] = []
    image_id = ""
    rest = reference
    while len(digests) < MAX_DIGESTS and (found := _LAST_DIGEST.search(rest)):
        rest = rest[: found.start()]
        if found["before"] == "@":
            digests.insert(0, found["digest"])
        else:
            image_id = image_id or found["digest"]
    if not image_id and not digests and (bare := _BARE_ID.search(rest)):
        image_id, rest = bare[0], rest[: bare.start()]
    name, tag = _name_and_tag(_SCHEME.sub("", rest).partition("@")[0])
    return Image(name, tag, tuple(dict.fromkeys(digests)), image_id)


def image_attributes(reference: str) -> Iterator[Attribute]:
    """The image's attributes, and the whole reference where they do not say it."""
    if not reference:
        return
    image = parse_image(reference)
    yield "container.image.name", image.name
    yield "container.image.tags", [image.tag] if image.tag else []
    yield "container.image.id", image.id
    yield "container.image.repo_digests", [f"{image.name}@{digest}" for digest in image.digests if image.name]
    yield "oci.manifest.digest", image.digests[-1] if image.digests else ""
    yield "kubearmor.container.image", "" if image.text() == reference and image.name else reference


def _name_and_tag(text: str) -> tuple[str, str]:
    slash, colon = text.rfind("/"), text.rfind(":")
    if colon > slash and _TAG.fullmatch(text[colon + 1 :]):
        return text[:colon], text[colon + 1 :]
    return text, ""
