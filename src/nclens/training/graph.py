"""Take a training step by one launch: its kernels are recorded once as a CUDA graph and replayed.

A small network on a GPU waits for the launches of its kernels, some hundred a step; a graph is one launch. It repeats
the same kernels on the same addresses with the same numbers, so the step reads its batch from a buffer, and it is
recorded again when a number changes that Python gives it, such as the learning rate.
"""

import warnings
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

Step = Callable[[], None]

#: Records a step that draws from these generators; returns a function that takes it again.
Recorder = Callable[[Step, Sequence[torch.Generator]], Step]


def record_cuda_graph(step: Step, generators: Sequence[torch.Generator]) -> Step:
    """Return the replay of a step's CUDA graph; the step is taken three times before, as PyTorch requires."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    # By default a recording forbids calls of other threads too, of which one puts a stream's images into pinned memory.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    return graph.replay


class Replayed:
    """Takes steps by replaying a recording, with the results of the step itself.

    The first replay of a recording is compared with the same step taken directly. Where they differ, or recording
    fails, all steps are taken directly.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        generators: Sequence[torch.Generator],
        required: bool = False,
        recorder: Recorder = record_cuda_graph,
    ) -> None:
        """Prepare; nothing is recorded before the first step.

        Args:
            tensors: all that a step changes, at fixed addresses.
            generators: all that a step draws from.
            required: a failure is an error, not a warning.
            recorder: records a step.
        """
        self._tensors, self._generators = list(tensors), list(generators)
        self._required, self._recorder = required, recorder
        self._replay: Step | None = None
        self._constants: Hashable = None
        self._direct = False

    def take(self, step: Step, constants: Hashable) -> None:
        """Take a step; `constants` are the numbers in it that are no tensors.

        Raises:
            ValueError: it cannot be recorded, and it is required.
        """
        if self._direct:
            step()
        elif self._replay is not None and constants == self._constants:
            self._replay()
        else:
            self._replay, self._constants = None, constants  # frees the memory of the last recording
            self._record(step)

    def _record(self, step: Step) -> None:
        """Record a step and take it once."""
        before = self._state()
        try:
            replay = self._recorder(step, self._generators)
        except RuntimeError as error:  # CUDA's and PyTorch's own
            self._restore(before)
            self._give_up(f"{type(error).__name__}: {error}")
            step()
            return
        # Recording has taken steps, too.
        self._restore(before)
        step()
        after = self._state()
        self._restore(before)
        replay()
        if self._is(after):
            self._replay = replay
        else:
            self._restore(after)
            self._give_up("its result differs from that of the step itself")

    def _give_up(self, reason: str) -> None:
        self._direct = True
        if self._required:
            raise ValueError(f"training.cuda_graph is `required`, but a step cannot be a CUDA graph: {reason}")
        warnings.warn(f"training without a CUDA graph: {reason}", RuntimeWarning, stacklevel=4)

    def _state(self) -> tuple[list[Tensor], list[Tensor]]:
        return [value.detach().clone() for value in self._tensors], [each.get_state() for each in self._generators]

    @torch.no_grad()
    def _restore(self, state: tuple[list[Tensor], list[Tensor]]) -> None:
        for value, kept in zip(self._tensors, state[0], strict=True):
            value.copy_(kept)
        for generator, kept in zip(self._generators, state[1], strict=True):
            generator.set_state(kept)

    def _is(self, expected: tuple[list[Tensor], list[Tensor]]) -> bool:
        """Return whether generators are as expected, and tensors up to the order of atomic additions."""
        tensors, generators = self._state()
        return all(map(torch.equal, generators, expected[1])) and all(map(_agree, tensors, expected[0]))


def _agree(value: Tensor, expected: Tensor) -> bool:
    if not value.is_floating_point():
        return torch.equal(value, expected)
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return torch.allclose(value, expected, rtol=0.0, atol=1e-3 * scale, equal_nan=True)
