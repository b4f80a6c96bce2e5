"""Write the images of studies/streamed_smoke.yaml: textures as JPEG files, and the same files in tar shards.

python studies/streamed_smoke.py [--folder data/streamed_smoke]
"""

import argparse
import io
import tarfile
from pathlib import Path

from PIL import Image

from nclens.data.textures import load

SHARDS = 3


def write(folder, train=60, test=20, size=48):
    """Write `folder/`, a folder a class, and `shards/`, three of each split, in the order of the files."""
    made = load(size, 3, train, test, 0)
    for split, (inputs, targets) in made.parts.items():
        files = []
        for number, (image, label) in enumerate(zip(inputs, targets.tolist(), strict=True)):
            name = made.classes[label]
            path = folder / "folder" / split / name / f"{number:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, quality=95)
            files.append((path, name))
        # As a folder is listed: by the names of its classes.
        files.sort(key=lambda file: (file[1], file[0].name))
        (folder / "shards").mkdir(exist_ok=True)
        each = -(-len(files) // SHARDS)
        for shard in range(SHARDS):
            with tarfile.open(folder / "shards" / f"{split}-{shard:03d}.tar", "w") as tar:
                for path, name in files[shard * each : (shard + 1) * each]:
                    add(tar, path.name, path.read_bytes())
                    add(tar, f"{path.stem}.cls", name.encode())


def add(tar, name, content):
    """Add a file to a shard."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--folder", type=Path, default=Path("data/streamed_smoke"))
    write(options.parse_args().folder)
