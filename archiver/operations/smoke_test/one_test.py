"""One smoke test: what is run, compared with and kept."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from archiver.errors import DamageError
from archiver.operations.smoke_test.accepting import accepting, advice
from archiver.operations.smoke_test.records import SmokeOptions, SmokeTest
from archiver.smoke.golden.file import write_golden_file
from archiver.smoke.levels import LEVELS, up_to
from archiver.smoke.receipt import Known, Run
from archiver.smoke.report import LevelReport, SmokeReport
from archiver.smoke.trial import Wishes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.operations.smoke_test.origin import Origin
    from archiver.progress import Progress
    from archiver.smoke.checkpoint.protocol import Checkpoint
    from archiver.smoke.golden.record import Golden
    from archiver.smoke.levels import Level


class OneTest:
    """A test of a checkpoint, which comes from ``origin`` or from no archive."""

    def __init__(
        self, options: SmokeOptions, known: Known, progress: Progress, origin: Origin | None
    ) -> None:
        self._options = options
        self._known = known
        self._progress = progress
        self._origin = origin
        self._accepting = accepting(origin)
        self._told: list[LevelReport] = []

    def run(self, checkpoint: Checkpoint) -> SmokeTest:
        """Run the levels, then keep what is to be kept."""
        from archiver.smoke.run import run  # noqa: PLC0415 - the levels are not needed for a look

        try:
            report, trial = run(
                checkpoint,
                self._levels(),
                self._wishes(),
                self._progress,
                self._options.on_fit,
                self._tell,
            )
        finally:
            checkpoint.close()
        return self._kept(report, trial.recorded if report.held else None)

    @contextmanager
    def noting_damage(self) -> Iterator[None]:
        """In the block, damage of the archive leaves a receipt too: of what was not shown.

        Else the snapshot would be the one never tested, and have its turn again and again.
        """
        try:
            yield
        except DamageError as error:
            self._note(error)
            raise

    def _note(self, error: DamageError) -> None:
        from archiver.smoke.hardware import environment  # noqa: PLC0415 - as above

        if self._origin is None:
            return
        left = self._levels()[len(self._told) :]
        unrun = [LevelReport(level, "skipped", 0.0, reason=error.message) for level in left]
        report = SmokeReport("", (*self._told, *unrun), environment=environment())
        self._origin.journal(report, self._run(report))

    def _tell(self, level: LevelReport) -> None:
        self._told.append(level)
        if self._options.on_level is not None:
            self._options.on_level(level)

    def _kept(self, report: SmokeReport, golden: Golden | None) -> SmokeTest:
        event = unkept = ""
        if self._origin is not None:
            event, unkept = self._origin.journal(report, self._run(report), golden)
        return SmokeTest(
            report,
            self._run(report),
            golden=self._known.event if "golden" in self._levels() else "",
            event=event,
            unkept=unkept,
            recorded=self._recorded(golden, event),
            remarks=(
                *(self._origin.remarks() if self._origin else ()),
                *self._known.remarks,
                *((self._accepting.remark,) if self._accepting.remark else ()),
            ),
            advice=advice(self._origin, report, self._accepting),
        )

    def _levels(self) -> tuple[Level, ...]:
        if self._options.level:
            return up_to(self._options.level)
        wanted = self._options.every or self._options.record or self._known.golden is not None
        return LEVELS if wanted else up_to("generate")

    def _wishes(self) -> Wishes:
        options = self._options
        return Wishes(
            memory=options.memory,
            dtype=options.dtype,
            device=options.device,
            golden=self._known.golden if "golden" in self._levels() else None,
            record=options.record,
            workers=options.workers,
            accepted=self._accepting.codes,
        )

    def _run(self, report: SmokeReport) -> Run:
        """As level ``load`` built the model: level ``golden`` has one of its own in its place."""
        for one in report.levels:
            if one.level == "load" and "mode" in one.facts:
                return Run(one.facts["dtype"], one.facts["device"], one.facts["mode"])
        return Run(self._options.dtype, self._options.device or "", "")

    def _recorded(self, golden: Golden | None, event: str) -> tuple[str, ...]:
        if golden is None:
            return ()
        if self._options.golden is not None:
            write_golden_file(self._options.golden, golden)
        file = [str(self._options.golden)] if self._options.golden else []
        return (*(["journal"] if event else []), *file)
