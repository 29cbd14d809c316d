"""Everything a report says about one run, before it is shown anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jepalm.report.analysis.article import ARTICLE_COMPOSITION
from jepalm.report.analysis.phases import PhaseRecord, stable_phase, training_phases
from jepalm.report.analysis.run import Speed, composition, epoch_means, parameters, speed
from jepalm.report.read import RunRecord, number
from jepalm.report.rules.findings import Finding, findings
from jepalm.report.rules.verdict import Verdict
from jepalm.report.rules.verdicts import verdicts


@dataclass(frozen=True)
class Summary:
    """One run, analysed."""

    record: RunRecord
    phase: PhaseRecord | None
    """The stable phase."""
    composition: Mapping[str, float]
    """Mean share of each term over it."""
    phases: list[tuple[PhaseRecord, Mapping[str, float]]]
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

    def as_json(self) -> dict[str, Any]:
        """Return the analysis as plain JSON values; what is not finite becomes null."""
        record, last = self.record, self.record.validation[-1] if self.record.validation else {}
        tree = {
            "run": record.name,
            "path": str(record.run.path),
            "status": record.status,
            "preset": record.title,
            "steps": {"reached": record.step, "planned": number(record.manifest.get("steps"))},
            "parameters": dict(self.parameters),
            "device": record.manifest.get("device"),
            "speed": asdict(self.speed),
            "terms": [asdict(term) for term in record.terms.values()],
            "stable_phase": asdict(self.phase) if self.phase else None,
            "composition": {
                term: {"share": share, "article": ARTICLE_COMPOSITION.get(term)}
                for term, share in self.composition.items()
            },
            "phases": [{**asdict(phase), "composition": dict(shares)} for phase, shares in self.phases],
            "evaluations": {split: found.as_json() for split, found in record.evaluations.items()},
            "findings": [asdict(finding) for finding in self.findings],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "embedding_by_epoch": {k: one.mean for k, one in epoch_means(record, "embedding").items()},
            "validation": {key: value for key, value in last.items() if number(value) is not None},
            "problems": list(record.problems),
        }
        plain = _plain(tree)
        assert isinstance(plain, dict)
        return plain


def analyse(record: RunRecord) -> Summary:
    """Measure composition, findings and verdicts of a run."""
    phase, phases = stable_phase(record), training_phases(record)
    return Summary(
        record=record,
        phase=phase,
        composition=composition(record, phase),
        phases=[(one, composition(record, one)) for one in phases] if len(phases) > 1 else [],
        findings=findings(record, phase),
        verdicts=verdicts(record, phase),
        speed=speed(record),
        parameters=parameters(record),
    )


def setting_text(value: Any) -> str:
    """Return a setting as YAML would write it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
