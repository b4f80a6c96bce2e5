"""Tiny data sets in the layouts that torchvision reads, written as their publishers write them.

Each builder writes below a folder and returns the class labels of the two splits, in the order of the files.
"""

import bz2
import csv
import gzip
import hashlib
import json
import pickle
import struct
import tarfile

import numpy as np
import scipy.io
from PIL import Image

RANDOM = np.random.default_rng(0)


def pixels(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def picture(path, size=(9, 11), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, 3)
    Image.fromarray(pixels(*shape), mode=mode).save(path)


def numbers(classes, each):
    return list(np.arange(classes * each) % classes)


def cifar(folder, kind, monkeypatch, classes=10, each=(4, 2)):
    """Also returns the images, (N, 3, 32, 32), of both splits."""
    base, fine = folder / kind.base_folder, classes == 100
    base.mkdir(parents=True)
    made = []
    for listed, count in ((kind.train_list, each[0]), (kind.test_list, each[1])):
        images, targets = pixels(classes * count, 3, 32, 32), numbers(classes, count)
        for number, (name, _) in enumerate(listed):
            part = slice(number, None, len(listed))
            content = {"data": images[part].reshape(-1, 3072), ("fine_labels" if fine else "labels"): targets[part]}
            (base / name).write_bytes(pickle.dumps(content))
        order = np.concatenate([np.arange(len(targets))[number :: len(listed)] for number in range(len(listed))])
        made.append((images[order], [targets[position] for position in order]))
    (base / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: [f"c{n}" for n in range(classes)]}))
    monkeypatch.setattr(kind, "train_list", [[name, md5(base / name)] for name, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[name, md5(base / name)] for name, _ in kind.test_list])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(base / kind.meta["filename"])})
    return [targets for _, targets in made], [images for images, _ in made]


def stl10(folder, kind, monkeypatch):
    base = folder / kind.base_folder
    base.mkdir(parents=True)
    images, targets = [], [numbers(10, 2), numbers(10, 3)]
    for split, values in zip(("train", "test"), targets, strict=True):
        images.append(pixels(len(values), 3, 96, 96))
        # Stored column by column.
        images[-1].transpose(0, 1, 3, 2).tofile(base / f"{split}_X.bin")
        (np.array(values, dtype=np.uint8) + 1).tofile(base / f"{split}_y.bin")
    (base / "class_names.txt").write_text("\n".join(f"c{n}" for n in range(10)))
    unlabelled = kind.train_list[2]
    listed = [[name, md5(base / name)] for name in ("train_X.bin", "train_y.bin")]
    monkeypatch.setattr(kind, "train_list", [*listed, unlabelled])
    monkeypatch.setattr(kind, "test_list", [[name, md5(base / name)] for name in ("test_X.bin", "test_y.bin")])
    return targets, images


def idx(path, values, code=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">HBB", 0, code, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + values.astype(values.dtype.newbyteorder(">")).tobytes())


def mnist(folder, kind, monkeypatch, first=0, classes=10, prefix=("train", "t10k")):
    raw = folder / kind.__name__ / "raw"
    targets, images = [numbers(classes, 3), numbers(classes, 2)], []
    for name, values in zip(prefix, targets, strict=True):
        images.append(pixels(len(values), 28, 28))
        idx(raw / f"{name}-images-idx3-ubyte", images[-1])
        idx(raw / f"{name}-labels-idx1-ubyte", np.array(values, dtype=np.uint8) + first)
    return targets, [image[:, None] for image in images]


def gzipped(folder, kind, monkeypatch):
    """MNIST as its publisher packs it, four .gz files, and unpacked beside them."""
    targets, images = mnist(folder, kind, monkeypatch)
    resources = []
    for name, _ in kind.resources:
        packed = folder / kind.__name__ / "raw" / name
        packed.write_bytes(gzip.compress(packed.with_suffix("").read_bytes(), mtime=0))
        resources.append((name, md5(packed)))
    monkeypatch.setattr(kind, "resources", resources)
    return targets, images


def emnist_letters(folder, kind, monkeypatch):
    return mnist(folder, kind, monkeypatch, 1, 26, ("emnist-letters-train", "emnist-letters-test"))


def qmnist(folder, kind, monkeypatch):
    raw = folder / "QMNIST" / "raw"
    targets, images = [numbers(10, 3), numbers(10, 2)], []
    for name, values in zip(("train", "test"), targets, strict=True):
        images.append(pixels(len(values), 28, 28))
        idx(raw / f"qmnist-{name}-images-idx3-ubyte", images[-1])
        table = np.zeros((len(values), 8), dtype=np.int32)
        table[:, 0] = values
        idx(raw / f"qmnist-{name}-labels-idx2-int", table, code=12)
    return targets, [image[:, None] for image in images]


def svhn(folder, kind, monkeypatch):
    targets, images, listed = [numbers(10, 3), numbers(10, 2)], [], dict(kind.split_list)
    for split, values in zip(("train", "test"), targets, strict=True):
        images.append(pixels(len(values), 3, 32, 32))
        url, name, _ = kind.split_list[split]
        stored = np.where(np.array(values) == 0, 10, values)[:, None]
        scipy.io.savemat(folder / name, {"X": images[-1].transpose(2, 3, 1, 0), "y": stored})
        listed[split] = [url, name, md5(folder / name)]
    monkeypatch.setattr(kind, "split_list", listed)
    return targets, images


def usps(folder, kind, monkeypatch):
    targets, listed = [numbers(10, 3), numbers(10, 2)], {}
    for split, values in zip(("train", "test"), targets, strict=True):
        url, name, _ = kind.split_list[split]
        rows = [f"{value + 1} " + " ".join(f"{i}:{RANDOM.uniform(-1, 1):.3f}" for i in range(256)) for value in values]
        (folder / name).write_bytes(bz2.compress("\n".join(rows).encode()))
        listed[split] = [url, name, md5(folder / name)]
    monkeypatch.setattr(kind, "split_list", listed)
    return targets, None


def fer2013(folder, kind, monkeypatch):
    targets = [numbers(7, 3), numbers(7, 2)]
    path = folder / "fer2013" / "fer2013.csv"
    path.parent.mkdir(parents=True)
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["emotion", "pixels", "Usage"])
        for usage, values in zip(("Training", "PrivateTest"), targets, strict=True):
            table.writerows([value, " ".join(map(str, pixels(48 * 48))), usage] for value in values)
    monkeypatch.setattr(kind, "_RESOURCES", kind._RESOURCES | {"fer": ("fer2013.csv", md5(path))})
    return targets, None


def class_folders(folder, splits, names, ending="png", each=(3, 2)):
    for split, count in zip(splits, each, strict=True):
        for name in names:
            for number in range(count):
                picture(folder / split / name / f"{number}.{ending}", (9 + number, 11))
    return [sorted(numbers(len(names), count)) for count in each], None


def country211(folder, kind, monkeypatch):
    return class_folders(folder / "country211", ("train", "test"), ["AD", "AE", "AF"])


def rendered_sst2(folder, kind, monkeypatch):
    return class_folders(folder / "rendered-sst2", ("train", "test"), ["negative", "positive"])


def imagenette(folder, kind, monkeypatch):
    return class_folders(folder / "imagenette2-160", ("train", "val"), ["n01440764", "n02102040", "n02979186"], "JPEG")


def dtd(folder, kind, monkeypatch):
    names, base = ["banded", "blotchy", "braided"], folder / "dtd" / "dtd"
    for split, each in (("train", 3), ("test", 2)):
        lines = [f"{name}/{split}_{number}.jpg" for name in names for number in range(each)]
        for line in lines:
            picture(base / "images" / line)
        (base / "labels").mkdir(exist_ok=True)
        (base / "labels" / f"{split}1.txt").write_text("\n".join(lines))
    return [sorted(numbers(3, 3)), sorted(numbers(3, 2))], None


def flowers102(folder, kind, monkeypatch):
    base = folder / "flowers-102"
    targets = [numbers(3, 3), numbers(3, 2)]
    for number in range(15):
        picture(base / "jpg" / f"image_{number + 1:05d}.jpg")
    scipy.io.savemat(base / "imagelabels.mat", {"labels": np.concatenate(targets) + 1})
    scipy.io.savemat(base / "setid.mat", {"trnid": np.arange(1, 10), "valid": [1], "tstid": np.arange(10, 16)})
    listed = {key: (name, md5(base / name)) for key, (name, _) in kind._file_dict.items() if key != "image"}
    monkeypatch.setattr(kind, "_file_dict", kind._file_dict | listed)
    return targets, None


def food101(folder, kind, monkeypatch):
    names, base = ["apple_pie", "baby_back_ribs"], folder / "food-101"
    (base / "meta").mkdir(parents=True)
    for split, each in (("train", 3), ("test", 2)):
        listed = {name: [f"{name}/{split}{number}" for number in range(each)] for name in names}
        for paths in listed.values():
            for path in paths:
                picture(base / "images" / f"{path}.jpg")
        (base / "meta" / f"{split}.json").write_text(json.dumps(listed))
    return [sorted(numbers(2, 3)), sorted(numbers(2, 2))], None


def gtsrb(folder, kind, monkeypatch):
    base = folder / "gtsrb"
    targets, _ = class_folders(base / "GTSRB", ("Training",), ["00000", "00001", "00002"], "ppm", (3,))
    rows = ["Filename;Width;Height;ClassId"]
    for number, value in enumerate(numbers(3, 2)):
        picture(base / "GTSRB" / "Final_Test" / "Images" / f"{number:05d}.ppm")
        rows.append(f"{number:05d}.ppm;11;9;{value}")
    (base / "GT-final_test.csv").write_text("\n".join(rows))
    return [*targets, numbers(3, 2)], None


def oxford_pets(folder, kind, monkeypatch):
    base = folder / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    targets = [numbers(3, 3), numbers(3, 2)]
    for split, values in zip(("trainval", "test"), targets, strict=True):
        lines = [f"{'ABC'[value]}bit_{split}{number} {value + 1} 1 1" for number, value in enumerate(values)]
        for line in lines:
            picture(base / "images" / f"{line.split()[0]}.jpg")
        (base / "annotations" / f"{split}.txt").write_text("\n".join(lines))
    return targets, None


def tinyimagenet(folder, classes=4, each=(3, 2)):
    """Tiny ImageNet below a folder; the first training image of each class is grayscale."""
    base = folder / "tiny-imagenet-200"
    names = [f"n{90 - number:08d}" for number in range(classes)]
    lines = []
    for number, name in enumerate(names):
        for image in range(each[0]):
            picture(base / "train" / name / "images" / f"{name}_{image}.JPEG", (64, 64), "L" if image == 0 else "RGB")
        (base / "train" / name / f"{name}_boxes.txt").write_text("")
        for image in range(each[1]):
            file = f"val_{image * classes + number}.JPEG"
            picture(base / "val" / "images" / file, (64, 64))
            lines.append(f"{file}\t{name}\t0\t0\t63\t63")
    picture(base / "test" / "images" / "test_0.JPEG", (64, 64))
    (base / "val" / "val_annotations.txt").write_text("\n".join(lines))
    (base / "wnids.txt").write_text("\n".join(names))
    (base / "words.txt").write_text("\n".join(f"{name}\tword {name}, other word" for name in names))
    return base


def packed(folder, archive):
    """Pack a folder into a .tar.gz and return its bytes."""
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return archive.read_bytes()
