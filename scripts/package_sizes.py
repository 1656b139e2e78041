"""Prints the size of each function's package that `sam build` made: unpacked, and zipped as Lambda receives it."""

import sys
import tempfile
import zipfile
from pathlib import Path

BUILT = Path(".aws-sam/build")


def main() -> int:
    packages = sorted(folder for folder in BUILT.glob("*") if folder.is_dir())
    if not packages:
        print("There are no packages yet. Run make build first.", file=sys.stderr)
        return 1
    print(f"{'package':<24}{'unpacked':>12}{'zipped':>12}")
    for package in packages:
        unpacked, zipped = measure(package)
        print(f"{package.name:<24}{unpacked / 1e6:>9.2f} MB{zipped / 1e6:>9.2f} MB")
    return 0


def measure(package: Path) -> tuple[int, int]:
    """The bytes of the files, and of a zip of them."""
    files = [file for file in package.rglob("*") if file.is_file()]
    with tempfile.TemporaryFile() as zipped:
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for file in files:
                archive.write(file, file.relative_to(package))
        return sum(file.stat().st_size for file in files), zipped.tell()


if __name__ == "__main__":
    sys.exit(main())
