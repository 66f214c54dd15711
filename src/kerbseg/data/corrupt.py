"""Pictures in other light, weather and focus, and with noise: what a network meets and was not trained for.

Kinds and strengths are those of the benchmark by Hendrycks and Dietterich ("Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations", ICLR 2019) as imagecorruptions-imaug 1.1.5 (Apache-2.0) has them: the numbers of
each severity are that package's. It is no dependency, because it installs OpenCV for desktops over the headless one,
which does not start where a screen's libraries are missing, and because two of its kinds cannot be seeded. From the
same draws both give the same pixels (to 1 of 255), but for `impulse_noise` and `glass_blur`, whose draws are made in
another way. Two kinds are left out, see `LEFT_OUT`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.data.corruption_kinds import CORRUPTIONS, Draws, Picture, to_bytes

SEVERITIES, DEFAULT_SEVERITY = (1, 2, 3, 4, 5), 3
SOURCE = "imagecorruptions-imaug 1.1.5"
LEFT_OUT = {
    "elastic_transform": "it moves pixels away from their labels",
    "frost": "it needs photographs of frost, which do not come with kerbseg",
}

GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(CORRUPTIONS),
    "zoo": (  # those that the cards of shipped weights give, at severity 3
        "gaussian_noise",
        "defocus_blur",
        "motion_blur",
        "snow",
        "fog",
        "spatter",
        "brightness",
        "jpeg_compression",
    ),
    **{
        family: tuple(name for name, each in CORRUPTIONS.items() if each.family == family)
        for family in ("noise", "blur", "weather", "digital")
    },
}


def corrupt_picture(picture: Picture, kind: str, severity: int, name: str) -> Picture:
    """The picture as one kind of corruption leaves it, uint8 of the same size.

    What is drawn follows from the name of the picture and the kind alone, not from order, threads or process. Raises
    MissingExtra without OpenCV.
    """
    corruption = CORRUPTIONS[kind]
    changed = corruption.apply(picture, corruption.strengths[severity - 1], _draws(kind, name))
    return changed if changed.dtype == np.uint8 else to_bytes(changed)


def _draws(kind: str, name: str) -> Draws:
    digest = hashlib.sha256(f"{kind} {name}".encode(errors="surrogatepass")).digest()
    return np.random.RandomState(int.from_bytes(digest[:4], "big"))


def kinds_of(choice: str | Sequence[str]) -> tuple[str, ...]:
    """The kinds that a choice names, in the order of `CORRUPTIONS`: kinds and groups, as a list or between commas.

    Raises KerbsegError for an unknown name, with the nearest one.
    """
    words = choice.split(",") if isinstance(choice, str) else list(choice)
    named: set[str] = set()
    for word in (str(each).strip() for each in words):
        if word in LEFT_OUT:
            raise KerbsegError(f"corruption {word!r} is left out: {LEFT_OUT[word]}; choose from: {', '.join(GROUPS)}")
        if word not in GROUPS and word not in CORRUPTIONS:
            raise KerbsegError(f"unknown corruption {word!r}; {_nearest(word)}")
        named.update(GROUPS.get(word, (word,)))
    if not named:
        raise KerbsegError(f"no corruption is named; choose from: {', '.join(choices())}")
    return tuple(kind for kind in CORRUPTIONS if kind in named)


def choices() -> list[str]:
    """All that `kinds_of` understands: groups, then kinds."""
    return [*GROUPS, *CORRUPTIONS]


def chosen(corrupt: str | Sequence[str] | None, severity: int | None = None) -> tuple[tuple[str, ...], int]:
    """The kinds that `kinds_of` gives, none for None, and their severity (3 for None).

    Raises KerbsegError as `kinds_of`, for a severity that is not 1, 2, 3, 4 or 5, and for one without a corruption.
    """
    if corrupt is None and severity is not None:
        raise KerbsegError(f"severity {severity} is that of corruptions, and none is named; add --corrupt, such as zoo")
    severity = DEFAULT_SEVERITY if severity is None else severity
    if severity not in SEVERITIES or isinstance(severity, bool):
        raise KerbsegError(f"severity is {severity!r}; choose 1 (slight) to 5 (strong)")
    return () if corrupt is None else kinds_of(corrupt), severity


def _nearest(word: str) -> str:
    beginning = [name for name in choices() if word and name.startswith(word)]
    return f"did you mean {beginning[0]!r}?" if beginning else did_you_mean(word, choices())
