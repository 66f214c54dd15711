"""A digest at the end of each exported file, over all before it: what was changed on the way is never run.

It stands where the format lets anything stand, an entry of an ONNX file's metadata, a comment in an .xml and behind the
end of a FlatBuffer (.tflite, .pte), and is looked at before an engine sees the file: some changes of one bit end a
process, others change the ids and nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from kerbseg.core.errors import BundleError

DIGEST_KEY = "kerbseg_digest"
HEX = 64  # characters of a SHA-256


@dataclass(frozen=True)
class Seal:
    """What stands around the digest in one format."""

    before: bytes
    after: bytes = b""

    def put_on(self, path: Path) -> None:
        """Adds the digest to a file."""
        content = path.read_bytes()
        path.write_bytes(content + self.before + self._digest(content) + self.after)

    def check(self, content: bytes, path: Path) -> None:
        """Raises BundleError where a digest is not that of what stands before it; older files have none."""
        body, mark, rest = content.rpartition(self.before)
        if mark and rest != self._digest(body) + self.after:
            raise BundleError(
                f"{path} is damaged, or was changed since kerbseg export wrote it; copy or export it again"
            )

    def read(self, path: Path) -> bytes:
        """A whole file with its digest, for formats whose files are all sealed.

        Raises BundleError for one that cannot be read, and where the digest is missing or another's.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path} cannot be read ({error.strerror}); choose another file") from error
        if self.before not in content[-len(self.before) - len(self.after) - HEX :]:
            raise BundleError(f"{path} is cut short, or kerbseg export did not write it; export it again")
        self.check(content, path)
        return content

    def _digest(self, content: bytes) -> bytes:
        return hashlib.sha256(content).hexdigest().encode()


def _entry() -> bytes:
    """A ModelProto of one entry of metadata, up to its value: protobuf takes messages one behind the other for one."""
    key = b"\x0a" + bytes([len(DIGEST_KEY)]) + DIGEST_KEY.encode()  # field 1 of the entry
    value = b"\x12" + bytes([HEX])  # field 2, without its text
    return b"\x72" + bytes([len(key) + len(value) + HEX]) + key + value  # field 14 of the model


ONNX_SEAL = Seal(_entry())
TAIL_SEAL = Seal(f"\n{DIGEST_KEY} ".encode())  # behind a FlatBuffer, whose readers stop before
XML_SEAL = Seal(f"\n<!-- {DIGEST_KEY} ".encode(), b" -->\n")
