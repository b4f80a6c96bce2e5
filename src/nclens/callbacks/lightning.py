"""Neural collapse in a training by Lightning, through its own logger."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from nclens._inputs import as_integer
from nclens._torchvision import repair_on_import
from nclens.callbacks.watch import Step, Watch, run_batch

repair_on_import()  # Lightning imports torchvision where it is installed, and fails where that cannot load

from lightning.pytorch import Callback, LightningModule, Trainer  # noqa: E402


class LightningCallback(Callback):
    """Measures a module's neural collapse at the end of epochs and logs it as `train/nc1`, `val/nc1` and so on.

    The values are those of `nclens.Watch.measure`, logged by the module's `log_dict`: every logger of the trainer gets
    them (MLflow, W&B, TensorBoard, CSV), and checkpoints and early stopping can monitor them. Logged values are
    float32; `values` has them in full. Under several processes each sample counts once.

    Args:
        head: the head or its name, as in `nclens.watch`; by default found.
        loaders: what to measure, by the name that it is logged under. By default `train` is the trainer's training
            loader and `val` its validation loader, if it has them. A training loader that augments, or that drops its
            last batch, is measured as such; give loaders of your own for other data.
        every: measure at every so many epochs, and after the last of `max_epochs`.
        step: step(module, batch) calls the module and returns the labels; by default as in `nclens.Watch.measure`.
        **options: further ones of `nclens.Watch.measure`: `ignore_index`, `min_samples`, `nc4`, `sharded`.

    Attributes:
        values: the values measured last, by loader.

    Raises:
        ValueError: as `nclens.Watch.measure`; the trainer has no loader, or several of one kind.
    """

    def __init__(
        self,
        head: nn.Module | str | None = None,
        *,
        loaders: Mapping[str, Iterable[Any]] | None = None,
        every: int = 1,
        step: Step | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.head, self.loaders, self.step, self.options = head, loaders, step, options
        self.every = as_integer("every", every, 1)
        self.values: dict[str, dict[str, float]] = {}
        self._watch: Watch | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, and log through the module."""
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        if (trainer.current_epoch + 1) % self.every and not last:
            return
        if self._watch is None or self._watch.model is not pl_module:
            self._watch = Watch(pl_module, self.head)

        def step(module: nn.Module, batch: Any) -> Tensor:
            converted = trainer.precision_plugin.convert_input(batch)
            return (self.step or run_batch)(module, trainer.strategy.batch_to_device(converted))

        for name, loader in _loaders(trainer, self.loaders).items():
            self.values[name] = self._watch.measure(loader, step=step, **self.options)
            logged = {f"{name}/{key}": value for key, value in self.values[name].items()}
            # Every process has these values already: their mean avoids a warning, and is the value.
            pl_module.log_dict(logged, on_step=False, on_epoch=True, sync_dist=trainer.world_size > 1, batch_size=1)


def _loaders(trainer: Trainer, given: Mapping[str, Iterable[Any]] | None) -> dict[str, Iterable[Any]]:
    if given is not None:
        return dict(given)
    own = {"train": trainer.train_dataloader, "val": trainer.val_dataloaders}
    for name, loader in own.items():
        if isinstance(loader, list | tuple | dict):
            raise ValueError(f"loaders: the trainer has several for `{name}`; name those to measure")
    return {name: loader for name, loader in own.items() if loader is not None}
