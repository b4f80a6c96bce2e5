"""Neural collapse in a training by Hugging Face's Trainer, through its own logger."""

from typing import Any

from torch import distributed, nn
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from nclens._inputs import as_integer
from nclens._torchvision import repair_on_import
from nclens.callbacks.watch import Step, Watch

repair_on_import()  # transformers imports torchvision where it is installed, and fails where that cannot load

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # noqa: E402


class HuggingFaceCallback(TrainerCallback):
    """Measures a model's neural collapse at the end of epochs and logs it by `trainer.log`.

    The values are those of `nclens.Watch.measure` for the trainer's training and evaluation data, in the order of the
    data sets and collated as for evaluation. They are named as Hugging Face names losses: `nc1` of the training data,
    `eval_nc1` of the evaluation data, `eval_NAME_nc1` where there are several. All that the trainer reports to gets
    them (MLflow, W&B, TensorBoard), and so does `trainer.state.log_history`. Under several processes each sample counts
    once.

    Add it to the trainer that it is given: `trainer.add_callback(nclens.HuggingFaceCallback(trainer))`.

    Args:
        trainer: the trainer, whose `log` is called.
        head: the head or its name, as in `nclens.watch`; by default found.
        every: measure at every so many epochs, and after the last.
        step: step(model, batch) calls the model and returns the labels; by default as in `nclens.Watch.measure`.
        ignore_index: samples, or tokens, with this label are left out; Hugging Face's is -100.
        **options: further ones of `nclens.Watch.measure`: `min_samples`, `nc4`.

    Raises:
        ValueError: as `nclens.Watch.measure`.
    """

    def __init__(
        self,
        trainer: Trainer,
        head: nn.Module | str | None = None,
        *,
        every: int = 1,
        step: Step | None = None,
        ignore_index: int | None = -100,
        **options: Any,
    ) -> None:
        self.trainer, self.head, self.every = trainer, head, as_integer("every", every, 1)
        self.options = {"step": step, "ignore_index": ignore_index, **options}
        self._watch: Watch | None = None
        self._loaders: dict[str, DataLoader[Any]] = {}

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure, and log by the trainer."""
        epoch = round(state.epoch or 0)
        if epoch % self.every and state.global_step < state.max_steps:
            return
        if self._watch is None:
            self._watch = Watch(kwargs["model"], self.head)
        values: dict[str, float] = {}
        for prefix, dataset in self._data().items():
            if prefix not in self._loaders:
                self._loaders[prefix] = self._loader(dataset)
            measured = self._watch.measure(self._loaders[prefix], **self.options)
            values |= {f"{prefix}{key}": value for key, value in measured.items()}
        waiting = control.should_log  # the trainer's own values of this epoch: its `log` would call them logged
        self.trainer.log(values)
        control.should_log = waiting

    def _data(self) -> dict[str, Any]:
        evaluated = self.trainer.eval_dataset
        data = {"": self.trainer.train_dataset}
        data |= (
            {f"eval_{name}_": one for name, one in evaluated.items()}
            if isinstance(evaluated, dict)
            else {"eval_": evaluated}
        )
        return {prefix: dataset for prefix, dataset in data.items() if dataset is not None}

    def _loader(self, dataset: Any) -> DataLoader[Any]:
        """Return a loader of a data set as the trainer prepares it, but each sample once whatever the processes."""
        prepared = self.trainer.get_test_dataloader(dataset)  # accelerate's, which repeats samples to fill batches
        several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        shared = several and not isinstance(prepared.dataset, IterableDataset)
        return DataLoader(
            prepared.dataset,
            batch_size=self.trainer.args.eval_batch_size,
            sampler=DistributedSampler(prepared.dataset, shuffle=False) if shared else None,
            collate_fn=prepared.collate_fn,
            num_workers=prepared.num_workers,
            pin_memory=prepared.pin_memory,
        )
