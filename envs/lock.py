"""Write requirements.lock and environment.yaml from the packages that are installed beside this Python."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def frozen() -> list[str]:
    """Return `name==version` of every installed package but our own, local build suffixes (`+cpu`) left out."""
    command = [sys.executable, "-m", "pip", "freeze", "--exclude-editable", "--exclude", "nclens"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted((line.split("+")[0] for line in lines if "==" in line), key=str.lower)


def main() -> None:
    """Write both files."""
    packages = frozen()
    lock = "# Exact versions of all that nclens runs and is tested with; by `make lock`. For conda: environment.yaml.\n"
    (HERE / "requirements.lock").write_text(lock + "\n".join(packages) + "\n", encoding="utf-8")
    head = [
        "# The same versions as requirements.lock, for conda; then: pip install --no-deps --editable . By `make lock`.",
        "name: nclens",
        "channels: [conda-forge, nodefaults]",
        "dependencies:",
        "  - python >=3.11",
        "  - pip",
        "  - pip:",
    ]
    conda = [*head, *(f"      - {package}" for package in packages)]
    (HERE / "environment.yaml").write_text("\n".join(conda) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
