"""What users bring: recipes, data sets, pictures, videos."""

from __future__ import annotations

import os
import re
import shutil
import struct
import zlib
from pathlib import Path
from random import Random

import fuzz_mutations as spoil
import numpy as np
import yaml
from fuzz_judge import Meaning
from fuzz_kinds import (
    Command,
    Kind,
    Mutation,
    command,
    copy_shared,
    frames_of,
    ids_of,
    printed,
    rewrite,
)
from fuzz_models import PREDICT, TRAIN
from PIL import Image

# ---- recipes

RECIPE = """# A recipe with many of the keys there are.
model: {name: mininet_v2_cpu, options: {dropout: 0.05}}
data: {name: camvid, train: [train], val: val, limit: 4}
epochs: 1
batch_size: 2
augment:
  flip: 0.5
  scale: [0.75, 1.5]
  rotate: 5
  jpeg: 0.5
  gamma: 0.4
  hue: 0.05
  blur: 1
  noise: 0.1
  progressive:
    - {until: 0.5, zoom: 0.5, crop: [32, 32]}
    - {until: 1.0, zoom: 1.0, crop: [32, 64]}
loss: {weights: median_frequency, power: 0.3, ohem: {threshold: 0.7, min_kept: 100}}
optim: {name: adamw, lr: 5e-3, weight_decay: 1e-2}
schedule: {name: one_cycle, pct_start: 0.2}
ema: 0.98
norm_momentum: 0.1
validate_every: 1
seed: 3
"""
LIKELY_FINE = ("merge", "directive", "null", "bom inside")
SMALL = (
    "epochs=1 batch_size=2 data.name=camvid data.limit=4 model.name=mininet_v2_cpu augment.progressive=[]"
    " augment.crop=[32,64]"
)


def _recipe(folder: Path, shared: Path) -> None:
    copy_shared(shared, folder, "camvid")
    (folder / "recipe.yaml").write_text(RECIPE)


def _recipe_commands(draw: Random, folder: Path) -> tuple[Command, ...]:
    shown = command("recipe recipe.yaml", printed)
    if draw.random() < 0.12:
        return (shown, command(f"train recipe.yaml {SMALL} --data-root camvid --out run --device cpu"))
    if draw.random() < 0.25:  # an override of a wrong kind
        line = draw.choice(
            ["recipe recipe.yaml", f"train recipe.yaml {SMALL} --data-root camvid --out run --device cpu"]
        )
        key = draw.choice(
            [*re.findall(r"([a-z_.]+)=", SMALL), "optim.lr", "loss.ohem.min_kept", "augment.scale", "ema"]
        )
        value = yaml.safe_dump(spoil.odd_value(draw, 3), default_flow_style=True, width=10**6).splitlines()[0][:200]
        return (Command((*line.split(), f"{key}={value}".replace("\0", ""))),)
    return (shown,)


def _spoil_recipe(draw: Random, folder: Path) -> Mutation:
    path = folder / "recipe.yaml"
    meaning: Meaning = "any"
    how = draw.choice(["text", "value", "value", "trap", "bytes"])
    if how == "text":
        changed, label = spoil.change_text(draw, RECIPE)
    elif how == "bytes":
        changed, label = spoil.change_bytes(draw, RECIPE.encode())
    elif how == "value":
        value, label = spoil.change_value(draw, yaml.safe_load(RECIPE))
        changed = yaml.safe_dump(value, sort_keys=False).encode(errors="surrogatepass")
    else:
        label = draw.choice(list(spoil.YAML_TRAPS))
        key = draw.choice(["epochs", "batch_size", "seed"])
        others = "\n".join(line for line in RECIPE.splitlines() if not line.startswith(f"{key}:"))
        document = spoil.YAML_TRAPS[label].replace("{key}", key)
        changed = (document + ("" if document.startswith("-") else others)).encode(errors="surrogatepass")
        meaning = "any" if label in LIKELY_FINE else "refused"
        label = f"{label} at {key}"
    rewrite(path, changed)
    return Mutation(f"{how}: {label}", meaning)


# ---- data sets

LABELS = """name: park
classes:
  - {name: path, color: [128, 64, 128], ids: [1, 4]}
  - {name: grass, color: "#00ff00", ids: [2]}
  - {name: water, ids: [7]}
ignore: [0, 255]
"""


def _park(folder: Path, shared: Path) -> None:
    copy_shared(shared, folder, "park.safetensors")
    draw = np.random.default_rng(5)
    for split, count in {"train": 4, "val": 2}.items():
        for number in range(count):
            picture = draw.integers(0, 256, (32, 48, 3), np.uint8)
            mask = draw.choice([1, 2, 4, 7, 0], (8, 12)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
            for kind, pixels, suffix in (("images", picture, ".jpg"), ("masks", mask, ".png")):
                path = folder / "park" / kind / split / f"{number:03}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    (folder / "park" / "dataset.yaml").write_text(LABELS)
    text = RECIPE.replace("name: camvid", "name: folder").replace("limit: 4", "limit: null")
    (folder / "recipe.yaml").write_text(text)


def _park_commands(draw: Random, folder: Path) -> tuple[Command, ...]:
    doctor = command("doctor folder --data-root park", printed)
    if draw.random() < 0.15:
        return (doctor, command("train recipe.yaml --data-root park --out run --device cpu"))
    if draw.random() < 0.2:
        line = "evaluate park.safetensors --data folder --data-root park --split val --json figures.json"
        return (doctor, command(line))  # the doctor looks at all; what evaluate needs may be whole
    return (doctor,)


def _spoil_park(draw: Random, folder: Path) -> Mutation:
    root = folder / "park"
    how = draw.choice(["yaml", "yaml", "trap", "picture", "mask", "structure", "structure", "structure"])
    path = root / "dataset.yaml"
    if how == "trap":
        label = draw.choice(list(spoil.YAML_TRAPS))
        key = draw.choice(["classes", "ignore", "name"])
        others = LABELS if key != "classes" else "name: park\n"
        others = re.sub(rf"(?m)^{key}:.*\n", "", others)
        document = spoil.YAML_TRAPS[label].replace("{key}", key)
        rewrite(path, document + ("" if document.startswith("-") else others))
        plain = label in LIKELY_FINE or key == "name"
        return Mutation(f"yaml trap: {label} at {key}", "any" if plain else "refused")
    if how == "yaml":
        if draw.random() < 0.5:
            changed, label = spoil.change_text(draw, LABELS)
        else:
            value, label = spoil.change_value(draw, yaml.safe_load(LABELS))
            changed = yaml.safe_dump(value, sort_keys=False).encode(errors="surrogatepass")
        rewrite(path, changed)
        return Mutation(f"dataset.yaml: {label}")
    kind = "images" if how == "picture" else "masks"
    path = draw.choice(sorted((root / kind).rglob("*.*")))
    if how in ("picture", "mask"):
        changed, label = spoil.change_bytes(draw, path.read_bytes())
        rewrite(path, changed)
        meaning: Meaning = "whole" if label in ("cut", "empty") else "same" if how == "mask" else "any"
        return Mutation(f"{how}: {label}", meaning)
    name = draw.choice(list(STRUCTURES))
    return Mutation(f"structure: {name}", STRUCTURES[name](path))


def _mask(path: Path, change: str) -> Meaning:
    """A mask of other content; `path` is one."""
    ids = np.array(Image.open(path))
    meaning: Meaning = "refused"
    match change:
        case "unknown id":
            ids[3, 5] = 99
        case "half the size":
            ids = ids[::2, ::2]
        case "color":
            ids = np.stack([ids] * 3, -1)
        case "binary":
            ids, meaning = np.where(ids > 1, 255, 0).astype(np.uint8), "any"  # void in one mask of many may be meant
        case "16 bits":
            ids, meaning = ids.astype(np.uint16), "any"
        case "16 bits, above 255":
            ids = ids.astype(np.uint16) * 300
        case "void":
            ids, meaning = np.full_like(ids, 255), "any"
        case "a pixel wide":
            ids = ids[:, :1]
    Image.fromarray(ids).save(path)
    return meaning


def _partner(path: Path) -> Path:
    return Path(str(path).replace("/masks/", "/images/")).with_suffix(".jpg")


def _gone(path: Path) -> Meaning:
    path.unlink()
    return "refused"


def _move(path: Path, name: str) -> Meaning:
    path.rename(path.with_name(name))
    return "any"


def _jpeg(path: Path) -> Meaning:
    Image.open(path).save(path.with_suffix(".jpg"), quality=70)
    path.unlink()
    return "refused"


def _class_gone(path: Path) -> Meaning:
    for mask in (path.parents[1]).rglob("*.png"):
        ids = np.array(Image.open(mask))
        ids[ids == 7] = 2
        Image.fromarray(ids).save(mask)
    return "refused"


def _tree_gone(folder: Path) -> Meaning:
    shutil.rmtree(folder)
    return "refused"


def _special(path: Path, kind: str) -> Meaning:
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path.name)
        case "device":
            path.symlink_to("/dev/zero")
        case "dangling":
            path.symlink_to("nowhere.png")
    return "refused"


def _folder_loop(path: Path) -> Meaning:
    (path.parent / "again").symlink_to(path.parent, target_is_directory=True)
    return "any"


def _rotated(path: Path) -> Meaning:
    picture = _partner(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(picture).save(picture, exif=exif)
    return "refused"


def _rewritten(path: Path, data: bytes) -> Meaning:
    rewrite(path, data)
    return "refused"


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n"  # endless, for those who run it
STRUCTURES = {
    **{f"mask: {change}": lambda path, change=change: _mask(path, change) for change in (
        "unknown id", "half the size", "color", "binary", "16 bits", "16 bits, above 255", "void", "a pixel wide")},
    **{f"mask is a {kind}": lambda path, kind=kind: _special(path, kind) for kind in (
        "pipe", "folder", "loop", "device", "dangling")},
    **{f"picture is a {kind}": lambda path, kind=kind: _special(_partner(path), kind) for kind in (
        "pipe", "folder", "loop", "device", "dangling")},
    "mask gone": _gone,
    "picture gone": lambda path: _gone(_partner(path)),
    "mask as JPEG": _jpeg,
    "a class without a pixel": _class_gone,
    "no val": lambda path: max(_tree_gone(path.parents[2] / kind / "val") for kind in ("images", "masks")),
    "no masks of val": lambda path: _tree_gone(path.parents[1] / "val"),
    "no images": lambda path: _tree_gone(path.parents[2] / "images"),
    "a folder that holds itself": _folder_loop,
    "picture turned by EXIF": _rotated,
    "mask named with codes": lambda path: _move(path, "\x1b[31m[red].png"),
    "mask named in no UTF-8": lambda path: _move(path, os.fsdecode(b"\xff\xfe.png")),
    "mask in capitals": lambda path: _move(path, path.name.upper()),
    "mask is PostScript": lambda path: _rewritten(path, POSTSCRIPT),
    "mask is text": lambda path: _rewritten(path, b"no picture\n"),
    "picture is PostScript": lambda path: _rewritten(_partner(path), POSTSCRIPT),
    "picture is 88 million pixels": lambda path: _rewritten(_partner(path), png_bomb(9400)),
    "dataset.yaml gone": lambda path: _gone(path.parents[2] / "dataset.yaml"),
    "dataset.yaml a pipe": lambda path: _special(path.parents[2] / "dataset.yaml", "pipe"),
    "dataset.yaml a folder": lambda path: _special(path.parents[2] / "dataset.yaml", "folder"),
}  # fmt: skip
"""Changes of a data set's files by name; each is given a mask, and says what it asks of the doctor."""

# ---- pictures

FORMATS: dict[str, dict[str, object]] = {
    "plain.png": {}, "paletted.png": {"mode": "P"}, "gray.png": {"mode": "L"}, "alpha.png": {"mode": "RGBA"},
    "moving.png": {"save_all": True}, "plain.jpg": {"quality": 90}, "progressive.jpg": {"progressive": True},
    "exif.jpg": {"exif": True}, "cmyk.jpg": {"mode": "CMYK"}, "lossy.webp": {"quality": 80},
    "lossless.webp": {"lossless": True, "exif": True}, "plain.gif": {}, "moving.gif": {"save_all": True},
    "plain.bmp": {}, "gray.bmp": {"mode": "L"}, "plain.tiff": {}, "lzw.tif": {"compression": "tiff_lzw"},
    "deflated.tif": {"compression": "tiff_adobe_deflate"}, "plain.ppm": {}, "gray.pgm": {"mode": "L"},
}  # fmt: skip


def _pictures(folder: Path, shared: Path) -> None:
    copy_shared(shared, folder, "model.safetensors")
    picture = Image.open(shared / "picture.png").convert("RGB")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8769] = 3, "maker", {0x9003: "2020:01:01 00:00:00", 0x829A: (1, 60)}
    for name, options in FORMATS.items():
        options = {key: exif if key == "exif" else value for key, value in options.items()}
        image = picture.convert(str(options.pop("mode", "RGB")))
        if "save_all" in options:
            options["append_images"] = [image.rotate(90 * turn) for turn in (1, 2)]
        image.save(folder / name, **options)


def _picture_commands(draw: Random, folder: Path) -> tuple[Command, ...]:
    return ()


def _spoil_picture(draw: Random, folder: Path) -> Mutation:
    name = draw.choice(list(FORMATS))
    path = folder / name
    for other in FORMATS:
        if other not in (name, "plain.bmp"):
            (folder / other).unlink()
    alone = (command(f"predict model.safetensors {name} -o out", ids_of),)
    batch = (command("predict model.safetensors . -o out", ids_of, batch=True),)
    data = path.read_bytes()
    how = draw.choice(["bytes", "bytes", "cut", "head", "head", "structure", "trap"])
    meaning: Meaning = "any"
    if how == "bytes":
        changed, label = spoil.change_bytes(draw, data)
        if label in ("cut", "empty"):
            meaning = "whole"
        elif name.endswith(".png") and label in ("flip", "many flips", "noise"):
            meaning = "same"
    elif how == "cut":
        changed, label, meaning = spoil.cut(draw, data), "cut", "whole"
    elif how == "head":
        changed, label = _spoil_head(draw, path.suffix, data)
    elif how == "structure" and path.suffix == ".png":
        changed, label = _spoil_chunks(draw, data)
    else:
        label = draw.choice(list(PICTURE_TRAPS))
        changed = PICTURE_TRAPS[label]()
    rewrite(path, changed)
    if name.startswith("moving"):
        meaning = "any"
    return Mutation(f"{name}: {label}", meaning, alone if draw.random() < 0.8 else batch)


def _spoil_head(draw: Random, suffix: str, data: bytes) -> tuple[bytes, str]:
    """Something odd in the part that says what follows: sizes, offsets, tags."""
    if suffix in (".ppm", ".pgm"):
        changed, label = spoil.change_text(draw, data[:14].decode("latin-1"))
        return changed + data[14:], f"head: {label}"
    length = {".bmp": 54, ".gif": 30, ".webp": 40, ".png": 33, ".jpg": 700, ".tiff": 64, ".tif": 64}[suffix]
    if suffix in (".tiff", ".tif"):  # the directory may stand at the end
        start = min(struct.unpack("<I", data[4:8])[0], len(data) - 16)
        changed = data[:start] + spoil.number(draw, data[start : start + 160]) + data[start + 160 :]
        return changed, "directory"
    return spoil.number(draw, data[:length]) + data[length:], "head"


def _spoil_chunks(draw: Random, data: bytes) -> tuple[bytes, str]:
    """A PNG with a chunk changed, gone, doubled or moved, under a checksum that fits."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    place = draw.randrange(len(chunks))
    name, content = chunks[place]
    how = draw.choice(["change", "change", "remove", "double", "swap", "add"])
    if how == "change":
        chunks[place] = (name, spoil.change_bytes(draw, content)[0] if content else b"x")
    elif how == "remove":
        del chunks[place]
    elif how == "double":
        chunks.insert(place, chunks[place])
    elif how == "swap":
        other = draw.randrange(len(chunks))
        chunks[place], chunks[other] = chunks[other], chunks[place]
    else:
        bomb = zlib.compress(bytes(80 << 20), 9)
        new = draw.choice(
            [(b"zTXt", b"a\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb), (b"tRNS", b"x"), (b"eXIf", b"MM\0*junk")]
        )
        chunks.insert(1, new)
    made = b"".join(_chunk(*chunk) for chunk in chunks)
    return data[:8] + made, f"chunk {name.decode('latin-1')}: {how}"


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_bomb(side: int) -> bytes:
    """A black gray PNG of side x side pixels in a few kilobytes."""
    squeeze = zlib.compressobj(9)
    rows = b"".join(squeeze.compress(bytes(side + 1)) for _ in range(side)) + squeeze.flush()
    head = struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


PICTURE_TRAPS = {
    "PostScript": lambda: POSTSCRIPT,
    "PDF": lambda: b"%PDF-1.4\n1 0 obj<<>>endobj\n",
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "HTML": lambda: b"<!doctype html><title>404</title>",
    "88 million pixels": lambda: png_bomb(9400),
    "400 million pixels": lambda: png_bomb(20_000),
    "ICO": lambda: b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0",
    "a pointer of git-lfs": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}

# ---- videos

VIDEOS = {
    "a.mp4": ("mp4", "libx264"), "b.mp4": ("mp4", "mpeg4"), "c.mkv": ("matroska", "libx264"), "d.avi": ("avi", "mpeg4"),
    "e.avi": ("avi", "mjpeg"), "f.ts": ("mpegts", "mpeg2video"), "g.ts": ("mpegts", "libx264"), "h.gif": ("gif", "gif"),
    "i.mjpeg": ("mjpeg", "mjpeg"), "j.mov": ("mov", "libx264"),
}  # fmt: skip
FRAMES = 12


def _videos(folder: Path, shared: Path) -> None:
    import av

    copy_shared(shared, folder, "model.safetensors")
    picture = np.array(Image.open(shared / "picture.png").convert("RGB"))
    formats = {"mjpeg": "yuvj420p", "gif": "rgb8"}
    for name, (container, codec) in VIDEOS.items():
        with av.open(str(folder / name), "w", format=container) as file:
            stream = file.add_stream(codec, rate=10)
            stream.height, stream.width = picture.shape[:2]
            stream.pix_fmt = formats.get(codec, "yuv420p")
            stream.thread_count = 1
            for number in range(FRAMES):
                frame = av.VideoFrame.from_ndarray(np.roll(picture, 4 * number, 1), format="rgb24")
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))


def _spoil_video(draw: Random, folder: Path) -> Mutation:
    name = draw.choice(list(VIDEOS))
    for other in VIDEOS:
        if other != name:
            (folder / other).unlink()
    path = folder / name
    data = path.read_bytes()
    lines = {
        command(f"predict model.safetensors {name} -o out --save ids", frames_of): 6,
        command(f"predict model.safetensors {name} -o out"): 2,
        command(f"predict model.safetensors {name} -o out --smooth 0.7 --flicker"): 1,
        command("predict model.safetensors . -o out", batch=True): 1,
    }
    chosen = draw.choices(list(lines), list(lines.values()))[0]
    how = draw.choice(["bytes", "bytes", "cut", "head", "head", "box"])
    meaning: Meaning = "any"
    if how == "bytes":
        changed, label = spoil.change_bytes(draw, data)
        meaning = "whole" if label in ("cut", "empty") else "any"
    elif how == "cut":
        changed, label, meaning = spoil.cut(draw, data), "cut", "whole"
    elif how == "head":
        changed, label = spoil.number(draw, data[:600]) + data[600:], "head"
    else:
        changed, label = _spoil_box(draw, data)
    if path.suffix in (".gif", ".mjpeg", ".ts") and meaning == "whole" and label != "empty":
        meaning = "any"  # a stream of pictures has no length: one that ends between two of them is whole
    rewrite(path, changed)
    return Mutation(f"{name}: {label}", meaning, (chosen,))


BOX = re.compile(
    rb"ftyp|moov|mdat|mvhd|trak|tkhd|mdhd|hdlr|stsd|stts|stsc|stsz|stco|ctts|stss|elst|avcC|RIFF|LIST|avih|strh|strf|"
    rb"idx1|00dc|movi|\x1a\x45\xdf\xa3|\x18\x53\x80\x67|\x16\x54\xae\x6b|\x1f\x43\xb6\x75|\x44\x89|\x2a\xd7\xb1|\xa3|"
    rb"\x47\x40|\x47\x41|GIF89a|\x21\xf9|\x2c\0\0|\xff\xd8|\xff\xc0|\xff\xda"
)


def _spoil_box(draw: Random, data: bytes) -> tuple[bytes, str]:
    """An odd number right before or behind a name of the container."""
    matches = list(BOX.finditer(data))
    if not matches:
        return spoil.flip(draw, data), "flip"
    match = draw.choice(matches)
    start = max(0, match.start() + draw.choice([-4, 4, 4, 8, 12, 16, 20]))
    window = data[start : start + 8]
    return data[:start] + spoil.number(draw, window) + data[start + len(window) :], f"number at {match[0]!r}"


KINDS = (
    Kind("recipe", 180, _recipe, _spoil_recipe, _recipe_commands, tuple(TRAIN.split())),
    Kind("dataset", 150, _park, _spoil_park, _park_commands, (*TRAIN.split(), "kerbseg.data.doctor")),
    Kind("picture", 220, _pictures, _spoil_picture, _picture_commands, tuple(PREDICT.split())),
    Kind("video", 180, _videos, _spoil_video, _picture_commands, (*PREDICT.split(), "av", "cv2")),
)
