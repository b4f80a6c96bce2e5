"""Neural collapse accumulated batch by batch, as `torchmetrics` metrics.

The symbols are those of `nclens.metrics.collapse`. What is kept is counts, class means and the within-class scatter in
float64, merged by Chan's rule: for two groups of one class, with n and m samples and means a and b,

    mean = a + (b - a) m / (n + m) ,   scatter = scatter_a + scatter_b + (b - a)(b - a)' n m / (n + m) .

Summed raw moments would lose the scatter of collapsed features to cancellation.
"""

import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, suppress
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nclens._inputs import Array, as_integer, as_tensor, check_squares
from nclens._torchvision import import_torchvision
from nclens.metrics.collapse import (
    KEYS,
    Chosen,
    check_finite,
    check_float64,
    check_means,
    check_metrics,
    check_samples,
    collapse_table,
    count_disagreements,
    find_lacking,
    nc4_share,
    needs_whitening,
    readout,
    row_sums,
    warn_single,
    whitening,
    with_mean,
)
from nclens.metrics.generalised import generalised_table
from nclens.metrics.imbalance import TABLE_KEYS, check_counts, imbalance_table
from nclens.metrics.pairs import ONE_TILE
from nclens.metrics.ranks import ranks_table
from nclens.metrics.samples import check_ignore_index

# torchmetrics imports torchvision where it is installed, and fails where that cannot load its operators.
with suppress(ModuleNotFoundError):
    import_torchvision()
from torchmetrics import Metric


class _Moments(NamedTuple):
    """Of one group of samples: counts (K,), class means (K, d), sums of |h - hbar_k|^2 (K,), scatter N S_W (d, d).

    Where class counts n_k (K,) are given, also the scatter with each sample weighed by 1 / n_k.
    """

    counts: Tensor
    means: Tensor
    squares: Tensor
    scatter: Tensor
    class_counts: Tensor | None = None
    weighted: Tensor | None = None


class _Waiting(NamedTuple):
    """Samples of classes that have fewer than m of them so far: features (K, m - 1, d), counts (K,), int64."""

    features: Tensor
    counts: Tensor

    def samples(self) -> tuple[Tensor, Tensor]:
        """Return the samples (n, d), and their labels (n,)."""
        here = torch.arange(self.features.shape[1], device=self.counts.device) < self.counts[:, None]
        return self.features[here], here.nonzero()[:, 0]


class Float64Metric(Metric):
    """A metric whose tensors follow it to another device but stay in their dtype under any conversion."""

    is_differentiable = False
    higher_is_better = False

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Any:
        # torchmetrics shields the state from .half() but not from .to(torch.float16).
        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, exclude_state)

    def merge_state(self, incoming_state: "dict[str, Any] | Metric") -> None:
        """Merge the samples of another metric of this class, or of its `metric_state`, into this one."""
        super().merge_state(incoming_state)
        self._computed = None  # torchmetrics would go on returning the value from before


class NeuralCollapse(Float64Metric):
    """Neural collapse of all samples since the last reset: `neural_collapse` for features that come in batches.

    `update(features, labels, weight)` takes features (n, d) of any floating dtype, labels (n,), integers in [0, K),
    and the classifier's weight (K, d) as it is now; the last weight given is the one that is measured. A batch may lack
    classes. The largest feature of a batch must be 0 or lie in [4e-121, 3e120], for the sums are of squares.

    The metric measures the features that it is given and does not see the network. In training mode these are not the
    network's own: batch normalisation centres and scales each batch by itself, dropout adds noise, and NC1 comes out
    too large, by orders of magnitude where features have collapsed, without a warning; the running statistics of batch
    normalisation also move. Call `model.eval()` and use `torch.no_grad()` first, and `model.train()` afterwards;
    `nclens.watch` does so itself.

    `compute()` returns every key of `nclens.metrics.collapse.neural_collapse` but `nc4` as float64 scalars, with the
    same formulas, ranges and warnings. `nc4` needs the class means first: a second pass with
    `NearestClassMean`, which takes them from `class_means()`. `ranks()` and `generalised()` return the keys of
    `collapse_ranks` and of `generalised_collapse` from the same state. `ignore_index` and `min_samples` are those of
    that function; with `min_samples` there is a value `classes_measured`, and the class means have rows of nan.

    With `class_counts` it also returns `nc1_balanced`, `nc1_sample_mean`, `nc2_sample_mean`, `nc3_sample_mean` and
    `seli_means` of `nclens.metrics.imbalance.class_imbalance`. For `nc1_balanced` a sample of class k has the weight
    1 / n_k while it is added, so the classes' samples must in the end be in proportion to the counts, as on the
    training split itself, or equally many, as on a balanced test split. Otherwise it is nan, with a `RuntimeWarning`.

    The state is one d x d matrix, with `class_counts` two, and K x d class means, however many the samples; with
    `min_samples` = m also K (m - 1) x d numbers, the samples of classes that have fewer than m so far. The values are
    those of the whole-set function up to rounding, which for nc1 is about 1e-16 tr(S_W) / s_min^2, s_min the smallest
    non-zero singular value of M: here the scatter is projected after it was summed, there every sample before. Of more
    than 512 classes `update` writes to the rows of its batch's classes in place, and copies the weight; it leaves the
    other rows alone.

    The states of several processes are merged in `compute()`, those of two metrics in one process by `merge_state`;
    the classifier must be the same in all of them. The state moves with the metric and stays in float64 under
    `.half()`, `.to(dtype)` and `set_dtype`. `forward` accumulates, and returns the values of its batch alone, or nan
    for every key where the batch has too few samples of a class to be measured.

    Args:
        classes: K, at least 2.
        dim: d, the number of features.
        ignore_index: samples with this label are left out, whatever their features; by default none is.
        min_samples: 2 or more; classes with fewer samples are left out. By default no class may lack samples.
        class_counts: (K,), n_k >= 1, the training samples of each class; by default no measure that needs them.
        metrics: the keys that `compute` and `forward` return; what only the others need is not computed. By default all
            that the other arguments allow.
        **kwargs: those of `torchmetrics.Metric`, but not `dist_sync_on_step`.

    Raises:
        ValueError: counts that are not K integers of at least 1; a metric that is no key; in `update`, a wrong type,
            shape or device, labels out of range, or values that are not finite: the state is then as before; in
            `compute`, a class without samples, with `min_samples` fewer than two classes to measure, or class counts
            that differ between processes.

    >>> metric = NeuralCollapse(classes=2, dim=1)
    >>> weight = torch.tensor([[1.0], [-1.0]])
    >>> metric.update(torch.tensor([[3.0], [-1.5]]), torch.tensor([0, 1]), weight)
    >>> metric.update(torch.tensor([[1.0], [-2.5]]), torch.tensor([0, 1]), weight)
    >>> values = metric.compute()
    >>> round(values["nc1"].item(), 12), values["feature_norm"].item()
    (0.078125, 2.0)
    """

    full_state_update = True

    counts: Tensor
    means: Tensor
    squares: Tensor
    scatter: Tensor
    weight: Tensor
    spacing: Tensor
    waiting: Tensor
    waiting_counts: Tensor
    class_counts: Tensor
    weighted: Tensor

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        ignore_index: int | None = None,
        min_samples: int | None = None,
        class_counts: Array | None = None,
        metrics: Collection[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.dist_sync_on_step:
            raise ValueError("dist_sync_on_step: not supported, forward returns the values of the local batch")
        self.classes = classes = as_integer("classes", classes, 2)
        self.dim = dim = as_integer("dim", dim, 1)
        shapes = {"counts": (classes,), "means": (classes, dim), "squares": (classes,), "scatter": (dim, dim)}
        for name, shape in {**shapes, "weight": (classes, dim)}.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx=None)
        # The largest relative spacing of the features' types, below which residuals are rounding.
        self.add_state("spacing", torch.zeros((), dtype=torch.float64), dist_reduce_fx="max")
        self.ignore_index = check_ignore_index(ignore_index)
        self.min_samples = None if min_samples is None else as_integer("min_samples", min_samples, 2)
        if self.min_samples is not None:
            room = torch.zeros((classes, self.min_samples - 1, dim), dtype=torch.float64)
            self.add_state("waiting", room, dist_reduce_fx=None)
            self.add_state("waiting_counts", torch.zeros(classes, dtype=torch.int64), dist_reduce_fx=None)
        if class_counts is not None:
            counts = check_counts(class_counts, classes, "class_counts").cpu()
            self.add_state("class_counts", counts.clone(), dist_reduce_fx=None)
            self.add_state("weighted", torch.zeros((dim, dim), dtype=torch.float64), dist_reduce_fx=None)
        keys = tuple(key for key in KEYS if key != "nc4")
        keys = keys if min_samples is None else (*keys, "classes_measured")
        self.keys = check_metrics(metrics, keys if class_counts is None else (*keys, *TABLE_KEYS))

    def update(self, features: Array, labels: Array, weight: Array) -> None:
        """Add one batch."""
        x, labels = self._samples(features, labels)
        found = check_finite("weight", weight, (self.classes, self.dim), x)
        if self.classes <= ONE_TILE:
            self._keep(*_added(self._state(), self._waiting(), x, labels), found.double())
        else:
            self._add_to_present(x, labels)
            self._write("weight", slice(None), found)
        self.spacing = self.spacing.clamp(min=torch.finfo(as_tensor("features", features).dtype).eps)

    def _add_to_present(self, x: Tensor, labels: Tensor) -> None:
        """Add samples to the rows of their own classes, in place: the others are neither read nor written."""
        present, places = labels.unique(return_inverse=True)
        state, waiting = self._state(), self._waiting()
        rows = state._replace(counts=self.counts[present], means=self.means[present], squares=self.squares[present])
        if state.class_counts is not None:
            rows = rows._replace(class_counts=state.class_counts[present])
        if waiting is not None:
            waiting = _Waiting(*(tensor[present] for tensor in waiting))
        moments, waiting = _added(rows, waiting, x, places)
        for name, tensor in (("counts", moments.counts), ("means", moments.means), ("squares", moments.squares)):
            self._write(name, present, tensor)
        if waiting is not None:
            self._write("waiting", present, waiting.features)
            self._write("waiting_counts", present, waiting.counts)
        self.scatter = moments.scatter
        if moments.weighted is not None:
            self.weighted = moments.weighted

    def _write(self, name: str, rows: Tensor | slice, values: Tensor) -> None:
        state = getattr(self, name)
        if state.is_inference() and not torch.is_inference_mode_enabled():  # it cannot be written to
            state = state.clone()
        state[rows] = values
        setattr(self, name, state)

    def _samples(self, features: Array, labels: Array) -> tuple[Tensor, Tensor]:
        x = as_tensor("features", features)
        if self.ignore_index is None:  # otherwise those that are ignored may have any value
            x = check_float64("features", x, (None, self.dim), self.scatter)
        x, labels = check_samples(x, labels, self.classes, self.ignore_index)
        x = check_float64("features", x, (None, self.dim), self.scatter)
        check_squares("features", x)
        return x, labels

    def compute(self) -> dict[str, Tensor]:
        """Return every key of `nclens.metrics.collapse.neural_collapse` but `nc4`, float64 scalars.

        With `class_counts` also those of `nclens.metrics.imbalance.class_imbalance` that need no logits and are of all
        classes.
        """
        moments, weight = self._pooled()
        if self.min_samples is None:
            warn_single(moments.counts, self.keys)
        return _values(moments, weight, self.min_samples, moments.class_counts, self.keys)

    def class_means(self) -> Tensor:
        """Return the class means (K, d), float64, of the samples of all processes; nan for classes left out.

        Raises:
            ValueError: a class has no sample, or with `min_samples` fewer than two classes are measured.
        """
        with self._synced():
            moments, _ = self._pooled()
        lacking = find_lacking(moments.counts, 1, self.min_samples)
        return moments.means.masked_fill(lacking[:, None], torch.nan)

    def ranks(self) -> dict[str, Tensor]:
        """Return every key of `nclens.metrics.ranks.collapse_ranks`, float64 scalars, of the samples of all processes.

        Raises:
            ValueError: as `class_means`.
        """
        with self._synced():
            moments, _ = self._pooled()
            spacing = self.spacing
        kept = (~find_lacking(moments.counts, 1, self.min_samples)).nonzero()[:, 0]
        return ranks_table(moments.scatter, moments.counts[kept], moments.means[kept], spacing)

    def generalised(self) -> dict[str, Tensor]:
        """Return every key of `nclens.metrics.generalised.generalised_collapse`, of the samples of all processes.

        Raises:
            ValueError: as `class_means`.
        """
        with self._synced():
            moments, weight = self._pooled()
        kept = (~find_lacking(moments.counts, 1, self.min_samples)).nonzero()[:, 0]
        return generalised_table(moments.means[kept], weight[kept])

    def _synced(self) -> AbstractContextManager[None]:
        """Within this the states are those of all processes."""
        synced = self._is_synced
        return self.sync_context(
            dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync and not synced, should_unsync=not synced
        )

    def forward(self, features: Array, labels: Array, weight: Array) -> dict[str, Tensor]:
        """Add one batch and return its own values; nan for each where it has too few samples of a class."""
        self.update(features, labels, weight)
        x, labels = self._samples(features, labels)
        state = self._state()
        if (train_counts := state.class_counts) is not None:  # a batch's own counts are known at once
            own = torch.bincount(labels, minlength=self.classes).clamp(min=1)
            state = state._replace(class_counts=own)
        batch, _ = _added(_moments(x[:0], labels[:0], state), self._no_waiting(), x, labels)
        least = 1 if self.min_samples is None else self.min_samples
        enough = batch.counts >= least
        if bool(enough.all()) or (self.min_samples is not None and int(enough.sum()) > 1):
            values = _values(batch, self.weight, self.min_samples, train_counts, self.keys)
        else:
            values = {key: batch.counts.new_tensor(torch.nan) for key in self.keys}
            if "classes_measured" in self.keys:
                values["classes_measured"] = enough.sum().double()
        self._forward_cache = values  # type: ignore[assignment]
        return values

    def merge_state(self, incoming_state: "dict[str, Any] | Metric") -> None:
        """Merge the samples of another metric, or of its `metric_state`, into this one.

        Raises:
            ValueError: the other is no `NeuralCollapse` of the same classes, dim and class counts, nor such a metric's
                state.
        """
        if isinstance(incoming_state, Metric) and not isinstance(incoming_state, NeuralCollapse):
            raise ValueError(f"merge_state: expected a NeuralCollapse, got {type(incoming_state).__name__}")
        state: dict[str, Any] = incoming_state.metric_state if isinstance(incoming_state, Metric) else incoming_state
        if not isinstance(state, dict):
            raise ValueError(f"merge_state: expected a NeuralCollapse or its metric_state, got {type(state).__name__}")
        for name, default in self._defaults.items():
            shape = torch.as_tensor(default).shape
            if not isinstance(state.get(name), Tensor) or state[name].shape != shape:
                raise ValueError(f"merge_state: expected {name} of shape {tuple(shape)}")
        moved = {name: state[name].to(self.scatter.device) for name in self._defaults}
        if "class_counts" in moved and not moved["class_counts"].equal(self.class_counts):
            raise ValueError("merge_state: the other metric has other class_counts")
        weight, spacing = moved.pop("weight"), moved.pop("spacing")
        waiting = _Waiting(moved.pop("waiting"), moved.pop("waiting_counts")) if "waiting" in moved else None
        given = moved.pop("class_counts", None)
        other = _Moments(**{name: tensor.to(self.scatter) for name, tensor in moved.items()}, class_counts=given)
        merged = _union([self._state(), other], [self._waiting(), waiting])
        filled = bool(other.counts.any()) or (waiting is not None and bool(waiting.counts.any()))
        self._keep(*merged, weight.to(self.scatter) if filled else self.weight)
        self.spacing = torch.maximum(self.spacing, spacing)
        self._computed = None
        self._update_count += 1

    def _state(self) -> _Moments:
        moments = _Moments(self.counts, self.means, self.squares, self.scatter)
        if "weighted" in self._defaults:
            moments = moments._replace(class_counts=self.class_counts, weighted=self.weighted)
        return moments

    def _waiting(self) -> _Waiting | None:
        return None if self.min_samples is None else _Waiting(self.waiting, self.waiting_counts)

    def _no_waiting(self) -> _Waiting | None:
        waiting = self._waiting()
        return waiting and _Waiting(*map(torch.zeros_like, waiting))

    def _keep(self, moments: _Moments, waiting: _Waiting | None, weight: Tensor) -> None:
        self.counts, self.means, self.squares, self.scatter = moments[:4]
        if moments.weighted is not None:
            self.weighted = moments.weighted
        if waiting is not None:
            self.waiting, self.waiting_counts = waiting
        self.weight = weight

    def _pooled(self) -> tuple[_Moments, Tensor]:
        """Moments and weight of all processes: while synced, every state has a leading dimension, one a process."""
        if self.counts.dim() == 1:
            return self._state(), self.weight
        stacked = [states for states in self._state() if states is not None]
        processes = [_Moments(*states) for states in zip(*stacked, strict=True)]
        if "weighted" in self._defaults and bool((self.class_counts != self.class_counts[0]).any()):
            raise ValueError("class_counts: not the same in all processes; expected those of the whole training split")
        samples = self.counts.sum(1)
        waiting: list[_Waiting | None] = [None] * len(processes)
        if self.min_samples is not None:
            waiting = [_Waiting(*states) for states in zip(self.waiting, self.waiting_counts, strict=True)]
            samples = samples + self.waiting_counts.sum(1)
        filled = int((samples > 0).int().argmax())
        return _union(processes, waiting)[0], self.weight[filled]


class NearestClassMean(Float64Metric):
    """nc4 in a second pass: share of samples for which argmax(W h + b) is not the class with the nearest mean.

    `update(features, labels)` takes features (n, d) of any floating dtype, and labels (n,) or None; `compute()` returns
    a float64 scalar in [0, 1], nan before any sample and where all class means coincide. Ties go to the lower class.
    For a test split, give the train split's means. A class whose row of the means is nan has none: no sample is nearest
    to it, and where labels are given its samples are not counted. As in `NeuralCollapse`, the network must be in
    evaluation mode. Processes are merged in `compute()`, metrics by `merge_state`. Precision and moves are as in
    `NeuralCollapse`.

    Args:
        means: (K, d), the class means, from `NeuralCollapse.class_means` or `nclens.metrics.collapse.class_means`.
        weight: (K, d), the classifier's weight.
        bias: (K,), the classifier's bias, or None for none.
        ignore_index: samples with this label are not counted; needs labels in `update`.
        **kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: a wrong type, shape or device, or values that are not finite; fewer than two classes with a mean.

    >>> metric = NearestClassMean(torch.tensor([[2.0], [-2.0]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([1.0, 0]))
    >>> metric.update(torch.tensor([[3.0], [1.0], [-0.25], [-3.0]]))
    >>> metric.compute()
    tensor(0.2500, dtype=torch.float64)
    """

    full_state_update = False

    means: Tensor
    near: Tensor
    scorer: Tensor
    offset: Tensor
    disagreements: Tensor
    total: Tensor

    def __init__(
        self,
        means: Array,
        weight: Array,
        bias: Array | None = None,
        *,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ignore_index = check_ignore_index(ignore_index)
        means = as_tensor("means", means)
        means = check_means("means", means, (None, None), means)
        weight = check_float64("weight", weight, tuple(means.shape), means)
        bias = weight.new_zeros(len(weight)) if bias is None else check_float64("bias", bias, (len(weight),), means)
        near = with_mean(means)
        scorer, offset = readout(weight, bias, means[near])
        for name, tensor in {"means": means.clone(), "near": near, "scorer": scorer, "offset": offset}.items():
            self.register_buffer(name, tensor, persistent=False)
        for name in ("disagreements", "total"):
            self.add_state(name, torch.zeros((), dtype=torch.int64, device=means.device), dist_reduce_fx="sum")

    def update(self, features: Array, labels: Array | None = None) -> None:
        """Add one batch."""
        x = as_tensor("features", features)
        if labels is not None:
            x, y = check_samples(x, labels, len(self.means), self.ignore_index)
            x, _ = Chosen(self.near, len(self.means)).samples(x, y)
        elif self.ignore_index is not None:
            raise ValueError("labels: needed, as ignore_index is given")
        x = check_float64("features", x, (None, self.means.shape[1]), self.means)
        self.disagreements = self.disagreements + count_disagreements(x, self.scorer, self.offset, self.near)
        self.total = self.total + len(x)

    def merge_state(self, incoming_state: "dict[str, Any] | Metric") -> None:
        """Merge the samples that another metric, of the same means and classifier, has counted.

        Raises:
            ValueError: the other is none, or has other means or another classifier.
        """
        if not isinstance(incoming_state, NearestClassMean):
            raise ValueError(f"merge_state: expected a NearestClassMean, got {type(incoming_state).__name__}")
        for name in ("near", "scorer", "offset"):
            mine, other = getattr(self, name), getattr(incoming_state, name)
            if mine.shape != other.shape or not mine.equal(other.to(mine)):
                raise ValueError("merge_state: the other metric has other class means or another classifier")
        self.disagreements = self.disagreements + incoming_state.disagreements.to(self.disagreements)
        self.total = self.total + incoming_state.total.to(self.total)
        self._computed = None
        self._update_count += 1

    def compute(self) -> Tensor:
        """Return nc4."""
        return nc4_share(self.disagreements, self.total, self.means[self.near])


def _moments(x: Tensor, labels: Tensor, like: _Moments) -> _Moments:
    """Moments of one batch of float64 features (n, d); classes and class counts are those of other moments."""
    classes = len(like.counts)
    if classes <= ONE_TILE:
        member = (labels[:, None] == torch.arange(classes, device=labels.device)).double()
        counts = member.sum(0)
    else:
        counts = labels.bincount(minlength=classes).double()

    def total(values: Tensor) -> Tensor:
        if classes <= ONE_TILE:
            return member.T @ values
        return values.new_zeros((classes, *values.shape[1:])).index_add_(0, labels, values)

    # Sums relative to one sample: equal samples then have exactly equal means, and total collapse shows as such.
    first = x[0] if len(x) > 0 else x.new_zeros(x.shape[1])
    means = first + total(x - first) / counts.clamp(min=1)[:, None]
    residual = x - means[labels]
    weighted, given = None, like.class_counts
    if given is not None:
        rows = residual / given[labels].double().sqrt()[:, None]
        weighted = rows.T @ rows
    return _Moments(counts, means, total(residual.square().sum(1)), residual.T @ residual, given, weighted)


def _added(moments: _Moments, waiting: _Waiting | None, x: Tensor, labels: Tensor) -> tuple[_Moments, _Waiting | None]:
    """Add samples: to the moments those of classes that have enough by now, to what waits the others."""
    classes = len(moments.counts)
    if waiting is None:
        return _merge(moments, _moments(x, labels, moments)), None
    if waiting.counts.any():
        earlier, theirs = waiting.samples()
        x, labels = torch.cat([earlier, x]), torch.cat([theirs, labels])
    sizes, room = torch.bincount(labels, minlength=classes), waiting.features.shape[1]
    late = ((moments.counts == 0) & (sizes <= room))[labels]
    merged = _merge(moments, _moments(x[~late], labels[~late], moments))
    x, labels = x[late], labels[late]
    sizes = torch.bincount(labels, minlength=classes)
    order = labels.argsort(stable=True)
    labels = labels[order]
    features = torch.zeros_like(waiting.features)
    features[labels, torch.arange(len(x), device=x.device) - (sizes.cumsum(0) - sizes)[labels]] = x[order]
    return merged, _Waiting(features, sizes)


def _union(groups: Sequence[_Moments], waiting: Sequence[_Waiting | None]) -> tuple[_Moments, _Waiting | None]:
    """Moments of the union of several groups, and what of them still waits."""
    merged = reduce(_merge, groups)
    parts = [group.samples() for group in waiting if group is not None]
    if not parts:
        return merged, None
    x, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    assert waiting[0] is not None
    return _added(merged, _Waiting(*map(torch.zeros_like, waiting[0])), x, labels)


def _merge(a: _Moments, b: _Moments) -> _Moments:
    """Moments of the union of two groups, by Chan's rule."""
    counts = a.counts + b.counts
    share = b.counts / counts.clamp(min=1)
    delta = b.means - a.means
    weights = a.counts * share
    rows = (weights.sqrt()[:, None] * delta)[weights > 0]
    weighted = None
    if a.class_counts is not None and a.weighted is not None and b.weighted is not None:
        lighter = rows / a.class_counts[weights > 0].double().sqrt()[:, None]
        weighted = a.weighted + b.weighted + lighter.T @ lighter
    return _Moments(
        counts,
        a.means + delta * share[:, None],
        a.squares + b.squares + weights * delta.square().sum(1),
        a.scatter + b.scatter + rows.T @ rows,
        a.class_counts,
        weighted,
    )


def _values(
    moments: _Moments,
    weight: Tensor,
    min_samples: int | None,
    train_counts: Tensor | None,
    keys: tuple[str, ...],
) -> dict[str, Tensor]:
    """The keys, which may be every one but nc4, of the classes that have enough samples.

    With training counts they may be those of imbalance too.
    """
    kept = (~find_lacking(moments.counts, 1 if min_samples is None else 2, min_samples)).nonzero()[:, 0]
    counts, means, squares = (tensor[kept] for tensor in moments[:3])
    white, deviation = None, means.new_zeros(())
    if needs_whitening(keys):
        white = whitening(means)
        deviation = (white * (moments.scatter @ white)).sum()
    values = row_sums(weight) | collapse_table(counts, means, squares, deviation, white, weight[kept], keys)
    if train_counts is not None and set(TABLE_KEYS) & set(keys):
        by_class = _by_class(moments, kept)
        values |= imbalance_table(counts, means, moments.scatter, by_class, weight[kept], train_counts[kept])
    return {key: values[key] for key in keys}


def _by_class(moments: _Moments, kept: Tensor) -> Tensor:
    """Sum over the classes kept of their scatter over their samples, (d, d); nan where it is not known."""
    assert moments.class_counts is not None
    assert moments.weighted is not None
    counts, given = moments.counts[kept], moments.class_counts[kept]
    if bool((counts == counts[0]).all()):  # as in a balanced test split
        return moments.scatter / counts[0]
    if bool((counts * given[0] != given * counts[0]).any()):
        warnings.warn(
            "nc1_balanced is nan: the samples of the classes are neither in proportion to class_counts nor equally "
            "many",
            RuntimeWarning,
            stacklevel=4,
        )
        return torch.full_like(moments.weighted, torch.nan)
    return moments.weighted * (given[0] / counts[0])
