"""Streamed images a second against torchvision's ImageFolder in a plain DataLoader, with the same transforms.

    python benchmarks/streaming.py [--workers 2] [--rounds 5] [--images 400] [--rand-augment] [--folder FOLDER]

JPEG files of 500 x 375 pixels, as ImageNet's are on average, are written to a temporary folder, or those of FOLDER are
read, which has a folder a class. Each part reads an epoch in batches of 32 with RandomResizedCrop(224), a flip and
perhaps RandAugment, and nothing else happens; the parts alternate. Times are from the first batch to the last, so that
the start of the workers does not count: wall seconds, or processor seconds without workers (`--workers 0`), which other
programs change less. A ratio is the median over the rounds of the ratios within a round, above 1 where streaming is
faster.

| part | what it is |
|---|---|
| `plain` | `DataLoader(ImageFolder(FOLDER, transform), num_workers=N)`: decoding and transforms of Pillow's images |
| `stream` | a stream with N workers, its files read as torchvision reads them, as those of `imagenet` are |
| `decoding` | decoding alone in one process, without a transform, by processor time |
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

BATCH, SIZE = 32, 224
SETTINGS = {
    "image_size": SIZE,
    "resize_size": None,
    "interpolation": "bilinear",
    "random_resized_crop": {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)},
    "horizontal_flip": 0.5,
    "channels": 3,
    "plain": True,
}


def write(folder, images):
    """Write JPEG files of two classes."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(images):
        place = folder / "ab"[number % 2]
        place.mkdir(exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)).astype(int)
        noisy = (picture + random.normal(0, 12, picture.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(place / f"{number:05d}.jpg", quality=90)


def plain(folder, options):
    from nclens._torchvision import import_torchvision

    torchvision = import_torchvision()
    import torch
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip()]
    steps += [v2.RandAugment()] if options.rand_augment else []
    dataset = torchvision.datasets.ImageFolder(folder, v2.Compose([*steps, v2.PILToTensor()]))
    return torch.utils.data.DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        num_workers=options.workers,
        drop_last=True,
        persistent_workers=options.workers > 0,
    )


def streamed(folder, options):
    import torch

    from nclens.data.stream import StreamedImages
    from nclens.data.stream_files import Files

    paths = sorted(folder.rglob("*.jp*g")) + sorted(folder.rglob("*.JP*G"))
    files = Files.of([str(path.relative_to(folder)) for path in paths], [path.stat().st_size for path in paths])
    rand = {"num_ops": 2, "magnitude": 9, "num_magnitude_bins": 31} if options.rand_augment else None
    settings = SETTINGS | {"rand_augment": rand}
    images = StreamedImages(files, torch.arange(len(files)), folder, settings, options.workers, "cpu")
    return images, [path.read_bytes() for path in paths[:200]]


def rate(batches, clock):
    """Images a second from the first batch to the last."""
    batches = iter(batches)
    next(batches)
    begun = clock()
    seen = sum(len(images) for images in batches)
    return seen / (clock() - begun)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rand-augment", action="store_true")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    clock = time.perf_counter if options.workers else time.process_time
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if options.folder is None:
            write(folder, options.images)
        loader = plain(folder, options)
        images, contents = streamed(folder, options)
        steps = len(images) // BATCH
        found = {"plain": [], "stream": [], "decoding": []}
        for number in range(options.rounds):
            order = torch.randperm(len(images))[: steps * BATCH].view(steps, BATCH)
            found["plain"].append(rate((batch for batch, _ in loader), clock))
            found["stream"].append(rate(images.augmented(order, number), clock))
            found["decoding"].append(decoding(contents))
    for part, values in found.items():
        print(f"{part:9} {statistics.median(values):8.1f} images a second")
    ratios = [stream / plain for stream, plain in zip(found["stream"], found["plain"], strict=True)]
    print(f"stream / plain: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def decoding(contents):
    from nclens.data.stream_transforms import decoded

    begun = time.process_time()
    for content in contents:
        decoded(content, "", 3, plain=True)
    return len(contents) / (time.process_time() - begun)


if __name__ == "__main__":
    main()
