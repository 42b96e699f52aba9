"""Image files in which not the pixels are damaged, but what stands beside them: the same without that."""

import itertools
import struct
from collections.abc import Iterator

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
END_OF_JPEG = b"\xff\xd9"
LOOKS = {  # what says how an image looks: transparency, profile, orientation; in JPEG also the kind of colours
    PNG: (b"tRNS", b"iCCP", b"eXIf"),
    JPEG: (b"\xe0", b"\xe1", b"\xe2", b"\xee"),  # JFIF, EXIF, ICC, Adobe
}
# Size, depth, compression, colours, orientation, strips, tiles, samples, palette, profile.
TIFF_TAGS = {254, *range(256, 260), 262, 266, 273, 274, *range(277, 280), 284, 292, 293, 317, 320, *range(322, 326)}
TIFF_TAGS |= {338, 339, 347, *range(529, 533), 34675}


def variants(content: bytes) -> Iterator[bytes]:
    """An image file without the metadata that do not matter, then also without one or more of those that do.

    A JPEG gets an end: what is missing before it is read as grey. Other files than PNG, JPEG and TIFF have no variants.
    """
    start = next((start for start in LOOKS if content.startswith(start)), None)
    if start:
        pieces = list((png_pieces if start == PNG else jpeg_pieces)(content))
        for number in range(len(LOOKS[start]), -1, -1):
            for kept in itertools.combinations(LOOKS[start], number):
                left = (piece for kind, piece in pieces if kind is None or kind in kept)
                yield start + b"".join(left) + END_OF_JPEG * (start == JPEG)
    elif content[:4] in (b"II*\0", b"MM\0*"):
        yield tiff_without_metadata(content)


def png_pieces(content: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """The chunks of a PNG, each with its kind; with None if it is critical, which a capital says."""
    start = len(PNG)
    while (kind := content[start + 4 : start + 8]).isalpha():
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        yield None if kind[:1].isupper() else kind, content[start:end]
        start = end


def jpeg_pieces(content: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """The segments of a JPEG, each with its marker; with None if it is no metadata. The last one has all pixels."""
    start = len(JPEG)
    while content[start : start + 1] == b"\xff" and (marker := content[start + 1 : start + 2]) != b"\xda":
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        yield marker if b"\xe0" <= marker <= b"\xef" or marker == b"\xfe" else None, content[start:end]
        start = end
    yield None, content[start:]


def tiff_without_metadata(content: bytes) -> bytes:
    """A TIFF whose first directory has only :data:`TIFF_TAGS`; all else stays where it is."""
    order = "<" if content[:1] == b"I" else ">"
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    (number,) = struct.unpack_from(f"{order}H", content, start)
    entries = [content[place : place + 12] for place in range(start + 2, start + 2 + 12 * number, 12)]
    kept = [entry for entry in entries if len(entry) == 12 and struct.unpack(f"{order}H", entry[:2])[0] in TIFF_TAGS]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)  # no second image
    return content[:start] + directory + content[start + len(directory) :]
