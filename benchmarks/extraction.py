"""Extraction of a snapshot's features: our passes over the plain one, in processor seconds.

    python benchmarks/extraction.py [--model resnet8|resnet18|vgg|mlp] [--snapshots 8] [--rounds 5] [--batch N]

Every part runs in its own process on one thread, since what the allocator keeps belongs to a process, and the parts
alternate. Each reads one snapshot after the other, and writes features and logits of 4,000 and 1,000 images of 28 x 28
pixels, the default study's size. The snapshots are of a short training on images with a class signal. Times are
processor seconds, user and system, of all snapshots and of what is done once a run, without imports; a ratio is the
median over the rounds of the ratios within a round.

| part | what it is |
|---|---|
| `plain` | the network as it is, batches of 250, glibc's allocator as it is |
| `memory kept` | the same; freed memory is kept, `nclens.training.runtime.keep_freed_memory` |
| `folded` | that, with batch normalisation folded, compared with the plain pass, and batches chosen |
| `nclens` | that, in oneDNN's memory layout: what the stage `extract` does |
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile

PARTS = ("plain", "memory kept", "folded", "nclens")
CLASSES, SHAPE = 10, (1, 28, 28)
MODELS = {"resnet8": {}, "resnet18": {}, "vgg": {"width": 32}, "mlp": {"widths": (256, 256, 256)}}
MANIFEST = {"mean": [0.25], "std": [0.15], "classes": [str(label) for label in range(CLASSES)]}


def built(options):
    import torch

    from nclens.models import MODELS as BUILDERS
    from nclens.models import place_network

    torch.manual_seed(0)
    network = BUILDERS[options.model](SHAPE, CLASSES, **MODELS[options.model])
    return place_network(network, SHAPE, torch.device("cpu"))


def prepare(options):
    """Write images with a class signal, and the snapshots of a short training."""
    import torch

    from nclens.data.prepared import place_splits
    from nclens.training.loop import Settings, Trainer
    from nclens.training.optimizer import Optimizer
    from nclens.training.runtime import configure
    from nclens.workflow.build.losses import build_loss
    from nclens.workflow.files import write_tensors
    from nclens.workflow.specs import Loss

    configure(1)
    random = torch.Generator().manual_seed(0)
    signal = torch.randint(0, 64, (CLASSES, *SHAPE), generator=random)
    tensors = {}
    for name, count in (("train", 4000 // options.fewer), ("test", 1000 // options.fewer)):
        targets = torch.randint(0, CLASSES, (count,), generator=random)
        images = torch.randint(0, 64, (count, *SHAPE), generator=random) + signal[targets]
        tensors |= {f"{name}.inputs": images.to(torch.uint8), f"{name}.targets": targets}
    write_tensors("data.safetensors", tensors)
    network, splits = built(options), place_splits(tensors, MANIFEST, torch.device("cpu"))
    settings = Settings(
        epochs=options.snapshots, batch_size=64, optimizer=Optimizer("sgd", 0.05, 5e-4, {"momentum": 0.9})
    )
    trainer = Trainer(network, build_loss(Loss("ce", "ce")), *splits, settings, seed=0)
    for snapshot in range(options.snapshots):
        left = iter(range(9))
        trainer.advance(lambda left=left: next(left, None) is None)
        write_tensors(f"{snapshot}.safetensors", network.state_dict())


def extract(options):
    """Return the processor seconds a snapshot, the batch size and the passes taken."""
    import torch

    from nclens.data.prepared import place_splits
    from nclens.training.loop import extract_features
    from nclens.training.passes import Passes
    from nclens.training.runtime import keep_freed_memory
    from nclens.workflow.agreement import nc1_of
    from nclens.workflow.files import read_tensors, write_tensors

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    ours = options.part in ("folded", "nclens")
    begun = seconds()
    if options.part != "plain":
        keep_freed_memory()
    splits = place_splits(read_tensors("data.safetensors", "")[0], MANIFEST, torch.device("cpu"))
    network, taken = built(options), set()
    if ours:
        passes = Passes(network, splits[0], nc1_of)
        passes._blocked &= options.part == "nclens"
    size = options.batch or (passes.batch_size if ours else 250)
    for snapshot in range(options.snapshots):
        network.load_state_dict(read_tensors(f"{snapshot}.safetensors", "")[0])
        backbone = passes.choose() if ours else network.backbone
        taken.add("plain" if backbone is network.backbone else getattr(backbone, "func", type(backbone)).__name__)
        made = [extract_features(network, split, size, backbone) for split in splits]
        write_tensors("features.safetensors", {f"{n}.{m}": made[n][m] for n in range(2) for m in range(2)})
    return (seconds() - begun) / options.snapshots, size, sorted(taken)


def seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def child(part, options):
    """Run one part in a process; return what it prints."""
    command = [sys.executable, __file__, "--part", part]
    for key in ("model", "snapshots", "batch", "fewer"):
        command += [f"--{key}", str(getattr(options, key))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=options.folder)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(MODELS), default="resnet8")
    parser.add_argument("--snapshots", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=0, help="samples in a batch; by default each part's own")
    parser.add_argument("--fewer", type=int, default=1, help="divide the numbers of images by this")
    parser.add_argument("--part", choices=[*PARTS, "prepare"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(prepare(options) if options.part == "prepare" else extract(options)))
        return
    with tempfile.TemporaryDirectory() as options.folder:
        child("prepare", options)
        rounds = [{part: child(part, options) for part in PARTS} for _ in range(options.rounds)]
    print(f"{options.model}, {5000 // options.fewer} images of 28 x 28, {options.rounds} rounds, one thread")
    print(f"{'':14}{'CPU s a snapshot':>17}{'of plain':>10}{'batch':>7}  pass")
    for part in PARTS:
        ratio = statistics.median(times[part][0] / times["plain"][0] for times in rounds)
        _, size, taken = rounds[0][part]
        median = statistics.median(times[part][0] for times in rounds)
        print(f"{part:14}{median:17.3f}{ratio:10.2f}{size:7}  {', '.join(taken)}")


if __name__ == "__main__":
    main()
