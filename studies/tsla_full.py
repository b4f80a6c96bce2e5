"""Sort CUB-2011 and Stanford Dogs by their own lists into folders of training and test images, for tsla_full.yaml.

python studies/tsla_full.py --cub data/CUB_200_2011 --dogs data/stanford_dogs --folder data
"""

import argparse
import os
import shutil
from pathlib import Path

from scipy.io import loadmat


def cub(root):
    """Yield (split, class, file) of an unpacked CUB_200_2011: by images.txt and train_test_split.txt."""
    names = dict(line.split() for line in (root / "images.txt").read_text().splitlines())
    for line in (root / "train_test_split.txt").read_text().splitlines():
        number, is_training = line.split()
        name = names[number]
        yield "train" if is_training == "1" else "test", Path(name).parent.name, root / "images" / name


def dogs(root):
    """Yield the same of Stanford Dogs, of which Images/ and the lists train_list.mat and test_list.mat are unpacked."""
    for split in ("train", "test"):
        for (file,) in loadmat(root / f"{split}_list.mat")["file_list"].tolist():
            name = str(file.item())
            yield split, Path(name).parent.name, root / "Images" / name


def sort(found, folder):
    """Put files into SPLIT/CLASS/ below a folder: as hard links where the file system has them, else as copies."""
    samples = list(found)
    missing = [str(path) for _, _, path in samples if not path.is_file()]
    if missing:
        raise SystemExit(f"{missing[0]} and {len(missing) - 1} more files of the lists are missing")
    for split, name, path in samples:
        place = folder / split / name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            try:
                os.link(path, place)
            except OSError:
                shutil.copyfile(path, place)
    print(f"{folder}: {len(samples):,} images")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cub", type=Path, help="the unpacked CUB_200_2011")
    options.add_argument("--dogs", type=Path, help="the folder with Images/, train_list.mat and test_list.mat")
    options.add_argument("--folder", type=Path, default=Path("data"), help="where cub_2011 and the other folder go")
    given = options.parse_args()
    if not (given.cub or given.dogs):
        options.error("give --cub, --dogs or both")
    if given.cub:
        sort(cub(given.cub), given.folder / "cub_2011")
    if given.dogs:
        sort(dogs(given.dogs), given.folder / "stanford_dogs_by_split")
