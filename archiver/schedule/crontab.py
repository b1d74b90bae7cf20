"""A job as a line of a crontab, for machines without systemd. It holds no secret: a crontab is no safe."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from archiver.schedule.job import require_sound

if TYPE_CHECKING:
    from archiver.schedule.job import Job


def crontab_line(job: Job) -> str:
    """Return the line; raise UsageError for what it cannot hold.

    The hub's token is read from its file by the hub's client, of which the line only has the path.
    """
    require_sound(job)
    hour, minute = job.at.split(":")
    words = [f"HF_TOKEN_PATH={shlex.quote(str(job.token))}"] if job.token else []
    words += [shlex.quote(word) for word in (*job.command[:3], "-q", *job.command[3:])]
    # cron reads a percent sign as the end of the line, within quotes as well.
    return f"{int(minute)} {int(hour)} * * * " + " ".join(words).replace("%", "\\%")
