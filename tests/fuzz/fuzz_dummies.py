"""Commands that do what a good one never does, so that a test sees that the harness sees it."""

import os
import sys
import time
from pathlib import Path


def main(argv: list[str]) -> None:
    """Runs the command of that name."""
    match argv[0]:
        case "copy":
            Path("out").write_bytes(Path("in").read_bytes())
        case "refuse":
            _leave("kerbseg: it is damaged; copy it again")
        case "warn and refuse":
            _leave("kerbseg: warning: it is old\nkerbseg: it is damaged; copy it again")
        case "refuse twice":
            _leave("kerbseg: it is damaged\nkerbseg: copy it again")
        case "chatter":
            _leave("kerbseg: it is damaged\nlibrary: I think so too")
        case "traceback":
            raise ValueError("nobody expected this")
        case "shown":
            print("Traceback (most recent call last)\nValueError: caught, and printed", file=sys.stderr)
        case "hang":
            time.sleep(10**6)
        case "hog":
            hoard = [bytearray(os.urandom(1 << 20)) for _ in range(10**6)]
            print(len(hoard))
        case "crash":
            os.abort()
        case "late":
            import atexit

            atexit.register(os.abort)
        case "fail":
            sys.exit(3)
        case "partly":
            print("kerbseg: 1 of 3 pictures failed", file=sys.stderr)
            sys.exit(1)
        case "warn":
            print("kerbseg: warning: it is cut off", file=sys.stderr)
            Path("out").write_bytes(b"half")


def _leave(words: str) -> None:
    print(words, file=sys.stderr)
    sys.exit(2)
