"""Keeping the records of runs, without weights, and the table of all records.

python -m fastlm.records RUN... --to runs
"""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tyro.conf import Positional

from fastlm import cli
from fastlm.accounting import count_parameters
from fastlm.cli.markdown import link, literal, table_row
from fastlm.config import TrainConfig
from fastlm.files import disk
from fastlm.runs.found import number, read_log, try_read_object
from fastlm.runs.given import check_place_of_records, check_run, is_foreign_model
from fastlm.runs.record import RunRecord
from fastlm.runs.run_files import RunFiles, SweepFiles
from fastlm.runs.state import state_of

_COLUMNS = (
    "run", "recipe", "data, vocabulary", "network", "parameters", "steps", "tokens", "seconds",
    "on", "validation loss", "bits per byte",
)  # fmt: skip
_BEGIN = "<!-- table of all runs: python -m fastlm.records -->"
_END = "<!-- end of the table -->"


def keep(folder: Path, to: Path, *, replace: bool = False) -> Path:
    """Copy the record of a run, or of a sweep and its runs, into a folder of records.

    Descriptions written by hand beside a record are left alone. Figures and the tables of a sweep
    are renewed.

    Args:
        replace: replace files of a run's record that have changed since it was kept.
    Raises:
        ValueError: if the folder holds neither, a run has not ended, or a path in it is absolute.
        FileExistsError: if the record of another run, or another file, has that name, a file of a
            run's record was changed and replace is not given, or the folder of records is in a run,
            a sweep, prepared data or a tokenizer.
    """
    target, copies = _planned(folder, to, replace=replace)
    _copy(copies)
    return target


def _copy(copies: Mapping[Path, Path]) -> None:
    for path, copy in copies.items():
        disk.copy_file(path, copy, replace=True)


def _planned(folder: Path, to: Path, *, replace: bool) -> tuple[Path, dict[Path, Path]]:
    """Return the record that keep() makes of a folder, and where it copies which files.

    Raises:
        OSError, ValueError: as keep.
    """
    check_place_of_records(to)
    runs = _runs_in(folder)
    if not runs:
        raise ValueError(f"{folder} holds no run and no sweep: expected {RunFiles(folder).config}")
    for run in runs:
        _check(run)
    target = to / folder.resolve().name
    for path in (to, target):
        disk.check_folder(path)
    if target.exists() and target.samefile(folder):
        raise ValueError(f"{folder} is its own record: give another folder --to")
    is_sweep = folder not in runs
    kept = {}
    for run in runs:
        files = RunFiles(run)
        # A sweep draws the curves of its runs in one figure.
        found = [path for path in files.evidence() if not is_sweep or path != files.curve]
        kept[run] = _record_of(found, run, target / run.relative_to(folder))
        if not replace:
            _refuse_changed(kept[run].values())
    if is_sweep:
        is_known = any(RunFiles(target / run.relative_to(folder)).log.is_file() for run in runs)
        found = SweepFiles(folder).evidence()
        kept[folder] = _record_of(found, folder, target, is_known=is_known)
    return target, {path: copy for paths in kept.values() for path, copy in paths.items()}


def _record_of(
    paths: Sequence[Path], folder: Path, target: Path, *, is_known: bool = False
) -> dict[Path, Path]:
    """Return the path of each file's copy in the record, except of files with an equal copy.

    Args:
        is_known: whether the record in target is known to be of this folder.
    Raises:
        FileExistsError: if a file is in the way that no earlier record of this folder wrote.
    """
    copies = {path: target / path.name for path in paths}
    new = {path: copy for path, copy in copies.items() if not _is_equal(path, copy)}
    old, log = RunFiles(target).log, RunFiles(folder).log
    if old.is_file() and not _is_equal(log, old):
        raise FileExistsError(
            f"{target} is the record of another run: rename {folder}, or remove the record"
        )
    there = [copy for copy in new.values() if copy.exists() or copy.is_symlink()]
    if there and not (is_known or old.is_file()):
        raise FileExistsError(
            f"{there[0]} exists and belongs to no record of {folder}: give another folder --to"
        )
    return new


def _refuse_changed(copies: Iterable[Path]) -> None:
    """Raise a FileExistsError if a copy differs: the logs are equal, so somebody edited it."""
    for copy in copies:
        if copy.exists() and copy.suffix != ".png":
            raise FileExistsError(
                f"{copy} is not as it was kept, or its run has changed: move it away, or replace "
                "it with --overwrite"
            )


def _is_equal(path: Path, copy: Path) -> bool:
    return path.is_file() and copy.is_file() and path.read_bytes() == copy.read_bytes()


def _runs_in(folder: Path) -> list[Path]:
    """Return the folder itself if it is a run, or else the runs in it."""
    if RunRecord(folder).exists:
        check_run(folder, is_saved=False)  # other tools have a config.json too
        return [folder]
    return [run for run in _folders_like_runs(folder, "*") if not is_foreign_model(run)]


def _folders_like_runs(folder: Path, pattern: str) -> list[Path]:
    found = (path for path in folder.glob(pattern) if RunRecord(path).exists)
    # Other tools have a config.json too, but no log.
    return sorted(path for path in found if RunFiles(path).log.is_file())


def _check(run: Path) -> None:
    record = RunRecord(run)
    state = state_of(run)
    if state.name == "imported":
        raise ValueError(f"{run} was not trained here and has no record: {state.reason}")
    if not state.is_final:
        raise ValueError(
            f"{run} has not come to its end, it is {state.name}: --resume auto goes on with it"
        )
    told = [record.config().data.path]
    arguments = try_read_object(record.files.environment, []).get("arguments")
    told += arguments if isinstance(arguments, list) else []
    for text in told:
        if any(Path(part).is_absolute() for part in (str(text), str(text).partition("=")[2])):
            raise ValueError(f"{run} was begun with {text}: a record names no path of a machine")


def table(records: Path, notes: list[str] | None = None) -> str:
    """Return a Markdown table with a line for each run in a folder of records.

    Args:
        notes: list to which a line is added for each folder that is left out: it is damaged, or no
            record, such as the model of another tool.
    """
    lines, notes = (
        [table_row(_COLUMNS), table_row(["---"] * len(_COLUMNS))],
        [] if notes is None else notes,
    )
    for run in _folders_like_runs(records, "**/*"):
        if is_foreign_model(run):
            notes.append(f"note: {run} is left out of the table: a model of transformers, no run")
            continue
        try:
            lines.append(table_row(_cells(run, records)))
        except (OSError, ValueError) as error:
            notes.append(f"warning: {run} is left out of the table: {error}")
    return "\n".join(lines)


def _cells(run: Path, records: Path) -> list[str]:
    record = RunRecord(run)
    config, rows = record.config(), read_log(run).rows
    summary = try_read_object(record.files.summary, [])
    where = summary or (rows[-1] if rows else {})
    state = state_of(run).name
    loss, bits = number(summary.get("val_loss")), number(summary.get("bits_per_byte"))
    reached = [number(where.get(key)) or 0 for key in ("step", "tokens", "elapsed_seconds")]
    return [
        link(run.relative_to(records)),
        literal(config.recipe),
        literal(f"{Path(config.data.path).name}, {config.model.vocab_size:,}"),
        f"{config.model.n_layers} x {config.model.d_model}, T {config.model.context_length:,}",
        f"{count_parameters(config.model):,}",
        *(f"{value:,.0f}" for value in reached),
        literal(_hardware(run, config)),
        state if loss is None or state == "broken off" else f"{loss:.4f}",
        "" if bits is None else f"{bits:.4f}",
    ]


def _hardware(run: Path, config: TrainConfig) -> str:
    environment = try_read_object(RunFiles(run).environment, [])
    threads = environment.get("threads")
    if environment.get("device", config.device) == "cpu":
        return f"{environment.get('cpu_capability', 'CPU')}, {threads} threads"
    return str(environment.get("gpu", environment.get("device", config.device)))


def update(page: Path, notes: list[str] | None = None) -> bool:
    """Put the table between a page's two marks, or at its end; return whether the page changed.

    The page's line endings stay.

    Args:
        notes: as in table.
    Raises:
        OSError, ValueError: as check_page.
    """
    old = check_page(page)
    newline = "\r\n" if "\r\n" in old else "\n"
    made = f"{_BEGIN}\n{table(page.parent, notes)}\n{_END}".replace("\n", newline)
    before, begin, rest = old.partition(_BEGIN)
    if begin:
        new = before + made + rest.partition(_END)[2]
    else:
        new = f"{old.rstrip()}\n\n## All runs\n\n".replace("\r\n", "\n").replace("\n", newline)
        new += made + newline
    if new == old:
        return False
    disk.write_file(page, new.encode(), replace=True)
    return True


def check_page(page: Path) -> str:
    """Return the text of a page that a table can be put into; a page that is missing gets a title.

    Raises:
        OSError: if it is no file.
        ValueError: if it is not UTF-8, or has other than one pair of marks, or none.
    """
    disk.check_new_file(page, replace=True)
    if not page.is_file():
        return "# Records of runs\n"
    try:
        text = page.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{page} must be UTF-8: got an invalid byte at byte {error.start}; save it as UTF-8"
        ) from None
    n_begins, n_ends = text.count(_BEGIN), text.count(_END)
    if n_begins == 1 and _END not in text.partition(_BEGIN)[2]:
        raise ValueError(f"{page} has the begin of the table but not its end: add a line {_END}")
    if (n_begins, n_ends) not in ((0, 0), (1, 1)):
        raise ValueError(
            f"{page} has {n_begins} lines {_BEGIN} and {n_ends} lines {_END}: leave one of each, "
            "around the table"
        )
    return text


def _keep(
    runs: Positional[tuple[Path, ...]] = (), to: Path = Path("runs"), *, overwrite: bool = False
) -> None:
    """Copy the records of finished runs and sweeps, weights aside, and renew the table of all.

    Args:
        runs: folders of runs or of sweeps; none: only the table.
        to: folder of the records; its README.md gets the table.
        overwrite: replace files of a record that were changed since they were kept.
    """
    if not runs and not to.is_dir():
        raise ValueError(f"no records in {to}: give folders of runs, or --to")
    check_place_of_records(to)
    page = to / "README.md"
    check_page(page)
    planned: dict[Path, tuple[Path, dict[Path, Path]]] = {}
    for run in runs:
        target, copies = _planned(run, to, replace=overwrite)
        other = planned.get(target, (run,))[0]
        if not other.samefile(run):
            raise FileExistsError(f"{run} and {other} have one name: keep them one at a time")
        planned[target] = run, copies
    for target, (_, copies) in planned.items():
        _copy(copies)
        cli.say(f"kept: {target}")
    notes: list[str] = []
    is_new = update(page, notes)
    for note in notes:
        cli.say(note, file=sys.stderr)
    cli.say(f"{page}: {'renewed' if is_new else 'as it was'}")


ARGUMENTS = _keep


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line of fastlm.records."""
    cli.parse(ARGUMENTS, argv, prog=cli.program("records"))


if __name__ == "__main__":
    cli.run(main)
