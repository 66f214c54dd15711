"""What of a recipe does not exist, or has no effect; said without importing torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from kerbseg.core.errors import DataError, RecipeError, did_you_mean
from kerbseg.core.text import counted
from kerbseg.data import check_name
from kerbseg.train.recipe import AnyRecipe, Recipe
from kerbseg.train.start_cards import shipped_weights

# importing the registry would take torch's seconds; a test compares
NETWORKS = (
    "efficientseg",
    "efficientseg_1_5",
    "efficientseg_6_0",
    "ddrnet_23_slim",
    "ddrnet_23",
    "enet",
    "erfnet",
    "erfnet_encoder",
    "erfnet_d_all",
    "erfnet_dg2_all",
    "erfnet_dg4_all",
    "erfnet_dg8_all",
    "erfnet_dg2s_all",
    "erfnet_dg4s_all",
    "erfnet_dg8s_all",
    "erfnet_d",
    "erfnet_dg2",
    "erfnet_dg4",
    "erfnet_dg8",
    "erfnet_dg2s",
    "erfnet_dg4s",
    "erfnet_dg8s",
    "erfnet_d_light",
    "erfnet_dg2_light",
    "erfnet_dg4_light",
    "erfnet_grouped_encoder",
    "espnet",
    "espnet_c",
    "fast_scnn",
    "fast_scnn_public",
    "kerbnet_s",
    "kerbnet_m",
    "liteseg_mobilenet_v2",
    "liteseg_mobilenet_v2_dense",
    "liteseg_mobilenet_v2_aspp",
    "liteseg_mobilenet_v2_aspp_dense",
    "liteseg_shufflenet",
    "liteseg_shufflenet_dense",
    "liteseg_shufflenet_aspp",
    "liteseg_shufflenet_aspp_dense",
    "liteseg_darknet19",
    "liteseg_darknet19_dense",
    "liteseg_darknet19_aspp",
    "liteseg_darknet19_aspp_dense",
    "mininet_v2",
    "mininet_v2_cpu",
    "mininet_v1",
    "mininet_erfnet_s",
    "mininet_erfnet_d",
    "mininet_v2_s",
    "mininet_v2_d",
    "mininet_v2_d_s",
    "mininet_v2_d_i",
    "mininet_v2_d_i_0",
    "mininet_v2_d_i_1",
    "mininet_v2_d_i_2",
    "mininet_v2_d_i_m",
    "pp_liteseg_t",
    "pidnet_s",
    "pidnet_m",
    "pidnet_l",
    "segnet_basic",
    "segnet",
    "unet_minicity",
    "unet_minicity_bn",
)
HEADS = {  # those that a network has of its own while it trains; a test compares them, too
    "ddrnet_23_slim": ("seghead_extra",),
    "ddrnet_23": ("seghead_extra",),
    "fast_scnn": ("aux_downsample", "aux_global"),
    "fast_scnn_public": ("auxlayer",),
    "pidnet_s": ("seghead_p", "seghead_d"),
    "pidnet_m": ("seghead_p", "seghead_d"),
    "pidnet_l": ("seghead_p", "seghead_d"),
    "pp_liteseg_t": ("seg_heads.1", "seg_heads.2"),
}
CLASSIFIERS = ("erfnet_encoder", "erfnet_grouped_encoder", "mobilenet_v2", "shufflenet", "darknet19")


def check_names(recipe: AnyRecipe) -> None:
    """Raises RecipeError for a network, data set or teacher that does not come with kerbseg, with the nearest name.

    For recipes of the command line: a program may register networks of its own.
    """
    segments = isinstance(recipe, Recipe)
    _check("model.name", recipe.model.name, NETWORKS if segments else CLASSIFIERS)
    if isinstance(recipe, Recipe):
        check_heads(recipe.model.name, recipe.heads, HEADS.get(recipe.model.name, ()))
        try:
            check_name(recipe.data.name)
        except DataError as error:
            raise RecipeError(f"'data.name': {error}") from error
        weights: dict[str, tuple[str, ...]] = {
            "model.weights": () if recipe.model.weights is None else (recipe.model.weights,),
            "distill.teacher": () if recipe.distill is None else recipe.distill.teacher,
        }
        for key, names in weights.items():
            for each in names:
                if not Path(each).suffix and not Path(each).exists():
                    _check(key, each, shipped_weights())


def check_heads(model: str, heads: Collection[str], known: Collection[str]) -> None:
    """Raises RecipeError for a head that is none of those which a network has."""
    if heads and not known:
        raise RecipeError(
            f"heads: {model!r} has no training heads of its own; leave the section away, or see auxiliary"
        )
    for name in heads:
        if name not in known:
            raise RecipeError(f"heads: {model!r} has no {name[:100]!r}; {did_you_mean(name[:100], known)}")


def remarks(recipe: AnyRecipe) -> Iterator[str]:
    """What a recipe asks for that never comes, since its epochs are over before."""
    schedule, optim, length = recipe.schedule, recipe.optim, f"the {counted(recipe.epochs, 'epoch')} of training"
    if schedule.warmup >= recipe.epochs:
        yield f"schedule.warmup={schedule.warmup:g} is no shorter than {length}: the rate never reaches optim.lr"
    if schedule.name == "step" and (late := [each for each in schedule.milestones if each >= recipe.epochs]):
        yield f"schedule.milestones={late} lie beyond {length}"
    if schedule.name == "exponential" and schedule.after >= recipe.epochs:
        yield f"schedule.after={schedule.after:g} lies beyond {length}: the rate never falls"
    if recipe.patience is not None and (1 + recipe.patience) * recipe.validate_every >= recipe.epochs:
        interval = counted(recipe.validate_every, "epoch")
        yield f"patience={recipe.patience} (a validation each {interval}) outlasts {length}"
    if optim.weight_decay_until is not None and optim.weight_decay_until >= recipe.epochs:
        yield f"optim.weight_decay_until={optim.weight_decay_until:g} lies beyond {length}"


def _check(key: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise RecipeError(f"{key!r} is {name[:100]!r}, which does not exist; {did_you_mean(name[:100], known)}")
