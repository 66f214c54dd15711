"""`kerbseg snippet`."""

from __future__ import annotations

from pathlib import Path

from kerbseg.cli.app import app
from kerbseg.cli.options import OutOrNothing
from kerbseg.cli.terminal import result, tell
from kerbseg.core.files import atomic_write


@app.command
def snippet(model: str, *, out: OutOrNothing = None) -> None:
    """Print a Python script that runs an exported model without kerbseg.

    The script needs only numpy, OpenCV and the engine: onnxruntime or openvino. It writes the class ids of pictures and
    colored overlays, and prints the share of each class. Option --snippet of export writes it together with the model.

    Example: `kerbseg snippet model.onnx -o segment.py`, then `python segment.py model.onnx street.jpg`

    Parameters
    ----------
    model
        Exported model (.onnx or .xml)
    out
        File to write the script to (default: print it)
    """
    from kerbseg.export.snippet import snippet as script_for

    text = script_for(model, "segment.py" if out is None else Path(out).name)
    if out is None:
        result(text.rstrip("\n"))
        return
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    tell(f"{out}: runs {model} without kerbseg")
