"""What pictures are padded to, known without the networks: an exported file is checked against it without torch."""

from __future__ import annotations

from collections.abc import Mapping

SMALLEST = 32  # height and width; no network is given less, and one of stride 64 twice that

_BY_STRIDE: Mapping[int, str] = {
    1: """
        liteseg_mobilenet_v2 liteseg_mobilenet_v2_dense liteseg_mobilenet_v2_aspp liteseg_mobilenet_v2_aspp_dense
        liteseg_shufflenet liteseg_shufflenet_dense liteseg_shufflenet_aspp liteseg_shufflenet_aspp_dense
        fast_scnn pp_liteseg_t segnet_basic segnet unet_minicity unet_minicity_bn
    """,
    4: "liteseg_darknet19 liteseg_darknet19_dense liteseg_darknet19_aspp liteseg_darknet19_aspp_dense",
    8: """
        ddrnet_23_slim ddrnet_23 pidnet_s pidnet_m pidnet_l
        enet erfnet erfnet_encoder erfnet_d_all erfnet_dg2_all erfnet_dg4_all erfnet_dg8_all erfnet_dg2s_all
        erfnet_dg4s_all erfnet_dg8s_all erfnet_d erfnet_dg2 erfnet_dg4 erfnet_dg8 erfnet_dg2s erfnet_dg4s erfnet_dg8s
        erfnet_d_light erfnet_dg2_light erfnet_dg4_light erfnet_grouped_encoder espnet espnet_c kerbnet_s kerbnet_m
        mininet_v2 mininet_v2_cpu mininet_erfnet_s mininet_erfnet_d mininet_v2_s mininet_v2_d mininet_v2_d_s
        mininet_v2_d_i mininet_v2_d_i_0 mininet_v2_d_i_1 mininet_v2_d_i_2 mininet_v2_d_i_m
    """,
    32: "efficientseg efficientseg_1_5 efficientseg_6_0 fast_scnn_public",
    64: "mininet_v1",
}

STRIDES: Mapping[str, int] = {name: stride for stride, names in _BY_STRIDE.items() for name in names.split()}
"""By the name of a network. A registered one that is missing here works too: its card is asked, which loads torch."""


def padded_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """The smallest height and width from `SMALLEST` on that hold a picture and are multiples of `stride`."""
    height, width = (-(-max(n, SMALLEST) // stride) * stride for n in size)
    return height, width
