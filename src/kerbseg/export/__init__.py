"""Networks as files for inference engines: `uint8 [b h w 3] -> uint8 [b h w]`, the card in their metadata."""

from kerbseg.export.files import export
from kerbseg.export.int8_report import Int8Report, export_int8
from kerbseg.export.parity import Parity, pictures_of
from kerbseg.export.self_labelled import unlabelled

__all__ = ["Int8Report", "Parity", "export", "export_int8", "pictures_of", "unlabelled"]
