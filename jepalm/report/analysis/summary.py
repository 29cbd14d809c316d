"""Everything a report says about one run, before it is shown anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jepalm.config import flatten
from jepalm.numbers import NOTHING, duration, three
from jepalm.report.analysis import evaluation as evaluations
from jepalm.report.analysis.article import ARTICLE_COMPOSITION, ARTICLE_DEVICE, ARTICLE_SECONDS, ARTICLE_STEPS
from jepalm.report.analysis.numbers import count, percent
from jepalm.report.analysis.phases import TrainingPhase, training_phases
from jepalm.report.analysis.run import (
    Phase,
    Speed,
    composition,
    epoch_means,
    parameters,
    speed,
    stable_phase,
)
from jepalm.report.analysis.weighted_terms import gradient_cosines, why_no_cosines
from jepalm.report.read import RunRecord, number
from jepalm.report.rules.findings import Finding, findings
from jepalm.report.rules.verdict import Verdict
from jepalm.report.rules.verdicts import verdicts

ARTICLE_TIME = f"article: {ARTICLE_STEPS:,} in {duration(ARTICLE_SECONDS)} on an {ARTICLE_DEVICE}"


@dataclass(frozen=True)
class Summary:
    """One run, analysed."""

    record: RunRecord
    phase: Phase | None
    """The stable phase."""
    composition: Mapping[str, float]
    phases: list[tuple[TrainingPhase, Mapping[str, float]]]
    """Phases of the training with the mean share of each term; empty for a run of one."""
    findings: list[Finding]
    verdicts: list[Verdict]
    speed: Speed
    parameters: Mapping[str, float]

    @property
    def beside_article(self) -> bool:
        """Whether the run trains any of the article's terms; else nothing of the article compares."""
        terms = self.record.terms
        return not terms or any(term in ARTICLE_COMPOSITION for term in terms)

    @property
    def headline(self) -> str:
        """Status, size, steps, time and device on one line."""
        record, took = self.record, self.speed
        parts = [record.title, record.status]
        if self.parameters.get("total"):
            parts.append(f"{count(self.parameters['total'])} parameters")
        steps = f"{took.steps:,} steps"
        if took.seconds:
            steps += f" in {duration(took.seconds)}"
        device = record.manifest.get("device")
        if isinstance(device, str) and device:
            steps += f" on {device}"
        return " · ".join([*parts, steps])

    @property
    def pace(self) -> str:
        """Steps a second, and how that compares with the article's."""
        if not self.speed.steps_per_second:
            return NOTHING
        words = f"{three(self.speed.steps_per_second)} steps/s"
        if self.speed.times_article and self.beside_article:
            size = "" if self.speed.same_size else ", whose model has 10.1 M parameters"
            words += f", {three(self.speed.times_article)} times the article's ({ARTICLE_DEVICE}{size})"
        return words

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Label and value of everything that identifies the run."""
        manifest, record = self.record.manifest, self.record
        planned = number(manifest.get("steps"))
        epoch = record.steps_per_epoch
        steps = f"{record.step:,}" + (f" of {planned:,.0f}" if planned else "")
        if epoch:
            steps += f" ({three(record.step / epoch)} epochs of {epoch:,})"
        hardware = [manifest.get("device"), manifest.get("device_name"), manifest.get("precision")]
        if threads := number(manifest.get("threads")):
            hardware.append(f"{threads:.0f} threads")
        versions = [
            f"{name} {manifest[name]}" for name in ("jepalm", "torch", "python") if manifest.get(name)
        ]
        resumed = manifest.get("resumed")
        best = manifest.get("best")
        rows = [
            ("run", record.name),
            ("status", record.status),
            ("steps", steps),
            ("time", duration(self.speed.seconds) + (f" ({ARTICLE_TIME})" if self.beside_article else "")),
            ("speed", self.pace),
            ("parameters", self._sizes()),
            ("device", " · ".join(str(part) for part in dict.fromkeys(hardware) if part)),
            ("phases", " · ".join(f"{phase.name}: {phase.text}" for phase, _ in self.phases)),
            ("data", _data(manifest.get("data"))),
            ("seed", str(manifest.get("seed", record.setting("training.seed")))),
            ("started", str(manifest.get("started") or "")),
            ("ended", str(manifest.get("ended") or "")),
            ("resumed", _steps(resumed)),
            ("best", _best(best)),
            ("versions", " · ".join(versions)),
            ("commit", str(manifest.get("git_commit") or "")),
        ]
        return [(label, value) for label, value in rows if value not in ("", "None")]

    @property
    def composition_rows(self) -> list[tuple[str, str, str]]:
        """Term, share on this run, share in the article; the largest first."""
        terms = sorted(self.composition, key=lambda term: -self.composition[term])
        return [
            (
                term,
                percent(self.composition[term]),
                percent(ARTICLE_COMPOSITION[term]) if term in ARTICLE_COMPOSITION else NOTHING,
            )
            for term in terms
        ]

    @property
    def phase_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the share of each term in each phase of the training."""
        terms = [term for term in self.record.terms if any(term in shares for _, shares in self.phases)]
        rows = [
            [phase.name, phase.text, *(percent(shares.get(term)) for term in terms)]
            for phase, shares in self.phases
        ]
        return ["phase", "steps", *terms], rows

    @property
    def cosine_note(self) -> str:
        """Why there is no cosine between gradients; empty where there is one or nothing to compare."""
        record = self.record
        if not record.train or len(record.terms) < 2 or gradient_cosines(record):
            return ""
        return why_no_cosines(record)

    @property
    def evaluation_note(self) -> str:
        """What to do for an evaluation, where there is none; empty where there is one."""
        if self.record.evaluations:
            return ""
        family = str(self.record.setting("model.family") or "")
        data = self.record.manifest.get("data")
        pairing = data.get("pairing") if isinstance(data, dict) else None
        return evaluations.not_evaluated(family, pairing, str(self.record.run.path))

    @property
    def phase_text(self) -> str:
        """The steps of the stable phase and why these."""
        return f"{self.phase.text}, {self.phase.why}" if self.phase else "no steps recorded"

    @property
    def settings(self) -> list[tuple[str, str]]:
        """Dotted key and value of every setting."""
        return [(key, setting_text(value)) for key, value in flatten(self.record.config)]

    def as_json(self) -> dict[str, Any]:
        """Return the analysis as plain JSON values; what is not finite becomes null."""
        record = self.record
        tree = {
            "run": record.name,
            "path": str(record.run.path),
            "status": record.status,
            "preset": record.title,
            "steps": {"reached": record.step, "planned": number(record.manifest.get("steps"))},
            "parameters": dict(self.parameters),
            "device": record.manifest.get("device"),
            "speed": asdict(self.speed),
            "stable_phase": asdict(self.phase) if self.phase else None,
            "composition": {
                term: {"share": share, "article": ARTICLE_COMPOSITION.get(term)}
                for term, share in self.composition.items()
            },
            "phases": [{**asdict(phase), "composition": dict(shares)} for phase, shares in self.phases],
            "evaluations": {split: found.as_json() for split, found in record.evaluations.items()},
            "findings": [asdict(finding) for finding in self.findings],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "embedding_by_epoch": {k: span.mean for k, span in epoch_means(record, "embedding").items()},
            "validation": {
                key: value
                for key, value in (record.validation[-1] if record.validation else {}).items()
                if number(value) is not None
            },
            "problems": list(record.problems),
        }
        plain = _plain(tree)
        assert isinstance(plain, dict)
        return plain

    def _sizes(self) -> str:
        if not self.parameters:
            return ""
        parts = [f"{name} {count(size)}" for name, size in self.parameters.items() if name != "total"]
        total = count(self.parameters.get("total", sum(self.parameters.values())))
        return f"{total} ({', '.join(parts)})" if parts else total


def analyse(record: RunRecord) -> Summary:
    """Measure composition, findings and verdicts of a run."""
    phase = stable_phase(record)
    return Summary(
        record=record,
        phase=phase,
        composition=composition(record, phase),
        phases=_phase_compositions(record),
        findings=findings(record, phase),
        verdicts=verdicts(record, phase),
        speed=speed(record),
        parameters=parameters(record),
    )


def _phase_compositions(record: RunRecord) -> list[tuple[TrainingPhase, Mapping[str, float]]]:
    phases = training_phases(record)
    return [(phase, composition(record, phase)) for phase in phases] if len(phases) > 1 else []


def setting_text(value: Any) -> str:
    """Return a setting as YAML would write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _data(data: Any) -> str:
    if not isinstance(data, Mapping):
        return str(data) if data else ""
    parts = [str(data[key]) for key in ("name", "corpus") if data.get(key)]
    if data.get("content_sha256"):
        parts.append(f"SHA-256 {str(data['content_sha256'])[:8]}")
    if data.get("canonical") is not None:
        parts.append("canonical" if data["canonical"] else "not the canonical text")
    return " · ".join(dict.fromkeys(parts))


def _steps(resumed: Any) -> str:
    if not isinstance(resumed, list) or not resumed:
        return ""
    return "at step " + ", ".join(f"{step:,.0f}" for value in resumed if (step := number(value)) is not None)


def _best(best: Any) -> str:
    if not isinstance(best, Mapping) or number(best.get("step")) is None:
        return ""
    return f"{best.get('metric', 'validation')} {three(number(best.get('value')))} at step {best['step']:,}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
