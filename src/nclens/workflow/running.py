"""Whether a workflow still runs in a folder, and the lock of one that was killed."""

from pathlib import Path


def remove_stale_lock(folder: Path) -> None:
    """Remove the lock of a killed Snakemake, if none is alive in this folder."""
    lock = folder / ".snakemake" / "locks"
    if snakemake_alive(folder) or not lock.is_dir():
        return
    for path in lock.glob("*.lock"):
        path.unlink()


def snakemake_alive(folder: Path) -> bool:
    """Return whether a Snakemake process of this folder is alive."""
    import psutil

    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        words = process.info["cmdline"] or []
        is_snakemake = any(Path(word).name == "snakemake" for word in words[:3]) or "snakemake" in words[1:3]
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if is_snakemake and alive and process.info["cwd"] and Path(process.info["cwd"]) == folder.resolve():
            return True
    return False
