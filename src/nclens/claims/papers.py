"""The papers behind the claims, and this software, as they are cited: CITATION.cff says the same, as a test checks.

Authors, titles and years are those of arXiv or, where one is named, of the proceedings or journal.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper as it is cited.

    Attributes:
        arxiv: its number, such as 2402.03979.
        title: as it is printed.
        authors: each as "family, given".
        year: of the venue or, without one, of the first version.
        venue: journal or proceedings; empty where it is cited as a preprint.
        journal: whether the venue is a journal.
    """

    arxiv: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str = ""
    journal: bool = False


PAPERS = {
    paper.arxiv: paper
    for paper in (
        Paper(
            "2402.03979",
            "Cross Entropy versus Label Smoothing: A Neural Collapse Perspective",
            ("Guo, Li", "Andriopoulos, George", "Zhao, Zifan", "Dong, Zixuan", "Ling, Shuyang", "Ross, Keith"),
            2025,
            "Transactions on Machine Learning Research",
            journal=True,
        ),
        Paper(
            "2502.15798",
            "MaxSup: Overcoming Representation Collapse in Label Smoothing",
            (
                *("Zhou, Yuxuan", "Li, Heng", "Cheng, Zhi-Qi", "Yan, Xudong", "Dong, Yifei", "Fritz, Mario"),
                "Keuper, Margret",
            ),
            2025,
        ),
        Paper(
            "2409.04180",
            "The Prevalence of Neural Collapse in Neural Multivariate Regression",
            ("Andriopoulos, George", "Dong, Zixuan", "Guo, Li", "Zhao, Zifan", "Ross, Keith"),
            2024,
            "Advances in Neural Information Processing Systems",
        ),
        Paper(
            "1906.02629",
            "When Does Label Smoothing Help?",
            ("Müller, Rafael", "Kornblith, Simon", "Hinton, Geoffrey"),
            2019,
            "Advances in Neural Information Processing Systems",
        ),
        Paper(
            "2006.11653",
            "Towards Understanding Label Smoothing",
            ("Xu, Yi", "Xu, Yuanhong", "Qian, Qi", "Li, Hao", "Jin, Rong"),
            2020,
        ),
        Paper("2210.17020", "A Law of Data Separation in Deep Learning", ("He, Hangfeng", "Su, Weijie J."), 2022),
        Paper(
            "2303.06484",
            "Generalizing and Decoupling Neural Collapse via Hyperspherical Uniformity Gap",
            ("Liu, Weiyang", "Yu, Longhui", "Weller, Adrian", "Schölkopf, Bernhard"),
            2023,
        ),
        Paper(
            "2310.05351",
            "Generalized Neural Collapse for a Large Number of Classes",
            (
                *("Jiang, Jiachen", "Zhou, Jinxin", "Wang, Peng", "Qu, Qing", "Mixon, Dustin", "You, Chong"),
                "Zhu, Zhihui",
            ),
            2023,
        ),
        Paper(
            "2403.14715",
            "Towards Understanding Why Label Smoothing Degrades Selective Classification and How to Fix It",
            ("Xia, Guoxuan", "Laurent, Olivier", "Franchi, Gianni", "Bouganis, Christos-Savvas"),
            2025,
            "International Conference on Learning Representations",
        ),
        Paper(
            "2502.10691",
            "Controlling Neural Collapse Enhances Out-of-Distribution Detection and Transfer Learning",
            ("Harun, Md Yousuf", "Gallardo, Jhair", "Kanan, Christopher"),
            2025,
            "International Conference on Machine Learning",
        ),
        Paper(
            "2602.16642",
            "Optimizer choice matters for the emergence of Neural Collapse",
            ("Zhao, Jim", "Cheng, Tin Sum", "Masarczyk, Wojciech", "Lucchi, Aurelien"),
            2026,
        ),
    )
}
"""Number on arXiv -> paper."""

SOFTWARE = {
    "title": "nclens: what a loss does to a network's representation",
    "author": "The nclens developers",
}


def named_in(texts: Iterable[str]) -> list[Paper]:
    """Return the papers whose numbers on arXiv are in some texts, such as `Claim.paper`, in their order, each once.

    >>> [paper.year for paper in named_in(["Our own (arXiv 2310.05351, 2303.06484)", "arXiv 2310.05351"])]
    [2023, 2023]
    """
    numbers = dict.fromkeys(number for text in texts for number in re.findall(r"\b\d{4}\.\d{4,5}\b", text))
    return [PAPERS[number] for number in numbers if number in PAPERS]
