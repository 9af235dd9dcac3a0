"""The data sets that can be downloaded; compressed files are decompressed after the download."""

import hashlib
from pathlib import Path

from fastlm.cli.progress import Progress
from fastlm.corpus.download import LEAST_BYTES, describe_no_data, fetch
from fastlm.corpus.sources import (
    changing_records,
    is_as_fetched,
    is_finished,
    measure,
    read_records,
    write_record,
)
from fastlm.files import disk, folders, resumed
from fastlm.files.compression import COMPRESSIONS, decompress, read_blocks

BASE_URL = "https://huggingface.co/datasets"
DATASETS = {
    "tinystories": {
        "train.txt": "roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-train.txt",
        "valid.txt": "roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-valid.txt",
    },
    "owt": {
        "train.txt": "stanford-cs336/owt-sample/resolve/main/owt_train.txt.gz",
        "valid.txt": "stanford-cs336/owt-sample/resolve/main/owt_valid.txt.gz",
    },
}


def fetch_dataset(
    name: str, out: Path, *, base_url: str = BASE_URL, on_progress: Progress | None = None
) -> Path:
    """Download train.txt and valid.txt of a data set of DATASETS into a folder; return the folder.

    Compressed files are decompressed and then removed. Existing files are not fetched again.

    Args:
        base_url: address before the paths in DATASETS, such as that of a mirror.
    Raises:
        DownloadError, OSError, ValueError: as fetch and decompress do.
        FileExistsError: if the folder holds another data set.
    """
    disk.check_folder(out)
    _check_is_same_dataset(name, out)
    urls = {file_name: f"{base_url.rstrip('/')}/{p}" for file_name, p in DATASETS[name].items()}
    for file_name, url in urls.items():
        _check_can_be_fetched(url, out / file_name)  # before the first is fetched for hours
    folders.make_folder(out)
    for file_name, path in DATASETS[name].items():
        url, target = urls[file_name], out / file_name
        compression = Path(path).suffix
        if compression in COMPRESSIONS:
            _fetch_packed(url, target, out / (file_name + compression), on_progress)
        else:
            fetch(url, target, on_progress=on_progress, is_data=True)
    return out


def _check_can_be_fetched(url: str, target: Path) -> None:
    """Raise an OSError if a file of a data set cannot be made, or would replace another file."""
    if is_finished(target, url, None):
        return
    compression = Path(url).suffix
    packed = target.with_name(target.name + compression)
    is_packed = compression in COMPRESSIONS
    is_ours = is_packed and packed.name in read_records(packed.parent)  # target may be its content
    disk.check_new_file(target, replace=is_as_fetched(target) or is_ours)
    resumed.check_resumed_file(packed if is_packed else target, made_of=["url"], replace=True)


def _check_is_same_dataset(name: str, out: Path) -> None:
    """Raise a FileExistsError if a file of another data set was fetched into the folder."""
    records = read_records(out)
    for file_name, path in DATASETS[name].items():
        for suffix in ("", *COMPRESSIONS):
            url = records.get(file_name + suffix, {}).get("url", path)
            if not url.endswith(path):
                raise FileExistsError(
                    f"{out / file_name}{suffix} is of {url}, not of {name}; give another --out"
                )


def _fetch_packed(url: str, target: Path, packed: Path, on_progress: Progress | None) -> None:
    """Fetch a compressed file as `packed`, and decompress it to `target`."""
    # A compressed file has a record from its download to its removal.
    is_packed_ours = packed.name in read_records(packed.parent)
    if not is_finished(target, url, None):
        replace = is_as_fetched(target)
        # An earlier call may have decompressed it and ended before it wrote the record.
        may_be_unpacked = is_packed_ours and target.is_file() and not replace
        disk.check_new_file(target, replace=replace or may_be_unpacked)
        fetch(url, packed, on_progress=on_progress, is_data=True)
        source = read_records(packed.parent)[packed.name]
        try:
            if wrong := describe_no_data(next(read_blocks(packed, LEAST_BYTES), b"")):
                raise ValueError(f"{url}: {wrong}")
            if may_be_unpacked:
                _check_is_unpacked(packed, target)
            else:
                decompress(packed, target, replace=replace)
        except ValueError:
            # The file is as the server sent it, so keeping it would only fail again.
            _forget(packed)
            raise
        write_record(target, source | measure(target))
    elif not is_packed_ours:
        return
    _forget(packed)


def _check_is_unpacked(packed: Path, target: Path) -> None:
    """Raise a FileExistsError if a file does not have the content of a compressed one."""
    digest = hashlib.sha256()
    for block in read_blocks(packed):
        digest.update(block)
    if digest.hexdigest() != measure(target)["sha256"]:
        raise FileExistsError(
            f"{target} is there already and is not {packed} unpacked: give another --out"
        )


def _forget(packed: Path) -> None:
    """Remove a fetched file, and then its record."""
    disk.remove_file(packed)
    with changing_records(packed.parent) as records:
        records.pop(packed.name, None)
