"""Delete what is old from Airflow's metadata database, in steps, and keep it as files.

clean_database report CONFIG   print what would be deleted: {table: rows}
clean_database run CONFIG      delete it

Airflow's own code decides which rows are old and may go (airflow.utils.db_cleanup, as `airflow db clean`). The last run
of each DAG always stays. It moves rows into tables of an archive; here these become files, so that they take no room in
the database. Run by the user that runs Airflow.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import inspect
import io
import json
import logging
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from airflow_runtime import backup
from airflow_runtime.disk import flush

# Days that one step covers where Airflow itself knows no steps.
STEP_DAYS = 7


class Failures(logging.Handler):
    """What Airflow only warns of: a table that could not be cleaned."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message. A table that is not there, as Celery's, is no failure."""
        if "Encountered error" in record.getMessage():
            self.messages.append(record.getMessage().strip())


def steps(oldest: datetime.datetime, until: datetime.datetime, days: int = STEP_DAYS) -> list[datetime.datetime]:
    """Return the times to clean before, one after the other, so that no transaction takes more than some days."""
    found, step = [], oldest + datetime.timedelta(days=days)
    while step < until:
        found.append(step)
        step += datetime.timedelta(days=days)
    return [*found, until]


def found_rows(said: str) -> dict[str, int]:
    """Return {table: rows} of what a dry run of Airflow prints."""
    pairs = re.findall(r"Performing dry run for table (\S+)\n.*?Found (\d+) rows", said, re.DOTALL)
    return {table: int(count) for table, count in pairs if int(count)}


def clean(until: datetime.datetime, config: dict[str, Any], **options: Any) -> list[str]:
    """Have Airflow clean, and return what it warned of."""
    from airflow.utils import db_cleanup

    failures = Failures()
    logging.getLogger(db_cleanup.__name__).addHandler(failures)
    if "batch_size" in inspect.signature(db_cleanup.run_cleanup).parameters:
        times, options = [until], {**options, "batch_size": config["clean"]["batch_size"]}
    else:
        times = [until] if options.get("dry_run") else steps(oldest_run(config, until), until)
    for step in times:
        db_cleanup.run_cleanup(clean_before_timestamp=step,
                               confirm=False,
                               skip_archive=not config["clean"]["archive_dir"],
                               **options)
        # Its tables of the archive are named after the second.
        time.sleep(1)
    return failures.messages


def oldest_run(config: dict[str, Any], default: datetime.datetime) -> datetime.datetime:
    """Return when the oldest of what grows fastest began."""
    with contextlib.closing(backup.connect(config)) as connection:
        return backup.query(
            connection,
            "SELECT least((SELECT min(dttm) FROM log), (SELECT min(start_date) FROM dag_run))")[0][0] or default


def forget(directory: str, days: int) -> None:
    """Remove files that are older than this."""
    for path in Path(directory).glob("_airflow_deleted__*.csv.gz"):
        if path.stat().st_mtime < time.time() - days * 86400:
            path.unlink()


def export(directory: str, config: dict[str, Any]) -> int:
    """Turn the tables of the archive, also those of a run that was killed, into files; return how many.

    A file is on the disk before the table that it replaces goes: a loss of power must not take both.
    """
    from airflow.utils.db_cleanup import export_archived_records

    export_archived_records(export_format="csv", output_path=str(directory), drop_archives=False, needs_confirm=False)
    plain = sorted(Path(directory).glob("_airflow_deleted__*.csv"))
    for path in plain:
        with open(path, "rb") as source, open(f"{path}.gz", "wb") as target:
            with gzip.GzipFile(fileobj=target, mode="wb") as packed:
                shutil.copyfileobj(source, packed)
            target.flush()
            os.fsync(target.fileno())
    flush(directory)
    with contextlib.closing(backup.connect(config)) as connection, connection:
        for path in plain:
            # Only these: somebody may have made another table since.
            backup.query(connection, f'DROP TABLE IF EXISTS "{path.stem}"')
    for path in plain:
        path.unlink()
    return len(plain)


def main(question: str, path_of_config: str) -> dict[str, Any]:
    """Answer one question."""
    config = json.loads(Path(path_of_config).read_text(encoding="utf-8"))
    settings = config["clean"]
    until = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=settings["keep_days"])
    answer, said = {"days": settings["keep_days"], "before": until.isoformat(timespec="seconds")}, io.StringIO()
    with contextlib.redirect_stdout(said):
        if question == "report":
            clean(until, config, dry_run=True)
            return {**answer, "rows": found_rows(said.getvalue())}
        # Held until the end: nothing is deleted while a backup is made.
        with contextlib.closing(backup.alone(config)):
            clean(until, config, dry_run=True)
            failures = clean(until, config)
            files = export(settings["archive_dir"], config) if settings["archive_dir"] else 0
    if settings["archive_dir"]:
        forget(settings["archive_dir"], settings["archive_days"])
    if failures:
        sys.exit("Not all could be cleaned: " + " ".join(failures))
    return {**answer, "rows": found_rows(said.getvalue()), "files": files}


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("report", "run"):
        sys.exit(__doc__)
    print(json.dumps(main(*sys.argv[1:])))
