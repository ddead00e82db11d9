"""Rules for variables, artifacts and signatures that types cannot express.

The planner calls the functions for artifacts again once their expressions are evaluated.
"""

from collections.abc import Callable, Iterator

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.casting import VARIABLE_TYPES
from sflow_ctl.format.expressions.templates import has_expression

Where = Callable[..., str]
_SUM = lazy_pattern(r"[0-9a-fA-F]{64}")


def variable_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check types and domains of the file's and the workflow's variables."""
    for section, variables in (
        ("variables", document.variables),
        ("workflow.variables", document.workflow.variables),
    ):
        for variable in variables:
            if variable.domain is not None and variable.value not in variable.domain:
                what = f'value {variable.value!r} of variable "{variable.name}" is not in the allowed domain {variable.domain!r}'
                place = where(section, variable.name, "value")
                yield Finding(
                    "value-outside-domain", what, place, "choose a value of the domain, or extend it"
                )
            if variable.type is not None and variable.type not in VARIABLE_TYPES:
                what = f'"{variable.type}" is not a valid VariableType'
                hint = f"one of {', '.join(sorted(set(VARIABLE_TYPES)))}"
                yield Finding("unknown-type", what, where(section, variable.name, "type"), hint)


def artifact_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check URIs of artifacts, and fields that not every scheme has."""
    for artifact in document.artifacts:
        place = where("artifacts", artifact.name, "uri")
        if artifact.content is not None and not artifact.uri.startswith("file://"):
            what = f'artifact "{artifact.name}" has content, which needs a file:// URI'
            yield Finding("artifact-content", what, place, "use file://PATH")
        if artifact.sha256 is not None and not has_expression(artifact.sha256):
            yield from artifact_sum_findings(artifact, artifact.sha256, where)
        if has_expression(artifact.uri):
            continue
        scheme, separator, rest = artifact.uri.partition("://")
        yield from artifact_field_findings(artifact, scheme, where)
        if not separator or not scheme or not rest:
            what = f'"{artifact.uri}" of artifact "{artifact.name}" is not a URI with a scheme and a path'
            yield Finding("artifact-uri", what, place, "e.g. fs:///data/model")


def artifact_field_findings(artifact: schema.Artifact, scheme: str, where: Where) -> Iterator[Finding]:
    """Report fields that an artifact with this scheme cannot have."""
    for field in schema.ARTIFACT_FIELDS:
        if getattr(artifact, field) and not schema.artifact_may_have(
            field, scheme, is_fetched=artifact.fetch
        ):
            what = f'"{field}" of artifact "{artifact.name}" has no meaning for {scheme}://'
            hint = f"only {schema.artifact_schemes(field)} artifacts have it"
            yield Finding("artifact-field", what, where("artifacts", artifact.name, field), hint)


def artifact_sum_findings(artifact: schema.Artifact, text: str, where: Where) -> Iterator[Finding]:
    """Check an artifact's checksum, as written or with its expressions evaluated."""
    if not _SUM.fullmatch(text):
        what = f'sha256 of artifact "{artifact.name}" is "{text}", but a checksum has 64 hexadecimal digits'
        place = where("artifacts", artifact.name, "sha256")
        yield Finding("artifact-sha256", what, place, "`sha256sum FILE` prints it")


def reason_of(signature: schema.Signature) -> str:
    """Return the reason word of a signature: its `reason`, else its own name."""
    return signature.reason if signature.reason is not None else signature.name.replace("-", "_")
