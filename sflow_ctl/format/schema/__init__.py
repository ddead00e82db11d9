"""The file format, version "0.1", as types: every section and field with its meaning, but no checks.

One module per subject; other packages write `from sflow_ctl.format import schema` and `schema.Task`. Named sections are lists
here: the loader brings the mapping forms into this shape.
"""

from sflow_ctl.format.schema.backends import BACKEND_FIELDS, Backend, DockerHost, Mail
from sflow_ctl.format.schema.definitions import (
    ARTIFACT_FIELDS,
    Artifact,
    Environment,
    EnvironmentSteps,
    Signature,
    SourcedFile,
    Variable,
)
from sflow_ctl.format.schema.document import (
    Document,
    Settings,
    SiteFile,
    TelemetryChoices,
    Workflow,
    WorkflowSettings,
)
from sflow_ctl.format.schema.monitor import (
    CustomScope,
    GpuScope,
    Monitor,
    MonitorGpus,
    MonitorNodes,
    MonitorReport,
    MonitorResources,
    MonitorScope,
    MonitorScopes,
    MonitorWindow,
    NamedWindow,
    WindowMark,
)
from sflow_ctl.format.schema.operators import CHOICES, CONTAINER_ENGINES, OPERATOR_FIELDS, Operator
from sflow_ctl.format.schema.policies import (
    Checkpoint,
    CheckpointInjection,
    Hang,
    Notify,
    Restart,
    ResumeChoice,
    Retries,
    Stop,
)
from sflow_ctl.format.schema.probes import Condition, Exec, Http, LogWatch, Probe, Probes, TcpPort
from sflow_ctl.format.schema.results import Metric, Output, Success, SuccessFile, SuccessJson
from sflow_ctl.format.schema.sweep import Sweep, SweepCase
from sflow_ctl.format.schema.tasks import (
    Dependency,
    File,
    GpuChoice,
    Gpus,
    Launcher,
    Nodes,
    Ports,
    Replicas,
    Resources,
    ServedPort,
    Task,
)
from sflow_ctl.format.schema.uploads import Result, ResultPattern, Storage, Upload, UploadAll
from sflow_ctl.format.schema.values import VERSION, Flag, IntExpr, Part, Time

__all__ = [
    "ARTIFACT_FIELDS", "BACKEND_FIELDS", "CHOICES", "CONTAINER_ENGINES", "OPERATOR_FIELDS", "VERSION", "Artifact",
    "Backend", "Checkpoint", "CheckpointInjection", "Condition", "CustomScope",
    "Dependency", "DockerHost", "Document", "Environment", "EnvironmentSteps",
    "Exec", "File", "Flag", "GpuChoice",
    "GpuScope", "Gpus", "Hang", "Http", "IntExpr", "Launcher", "LogWatch", "Mail", "Metric", "Monitor", "MonitorGpus",
    "MonitorNodes",
    "MonitorReport", "MonitorResources", "MonitorScope", "MonitorScopes", "MonitorWindow", "NamedWindow", "Nodes", "Notify",
    "Operator",
    "Output", "Part", "Ports", "Probe", "Probes", "Replicas", "Resources", "Restart", "Result", "ResultPattern", "ResumeChoice",
    "Retries", "ServedPort", "Settings", "Signature", "SiteFile", "SourcedFile", "Stop", "Storage", "Success", "SuccessFile",
    "SuccessJson", "Sweep", "SweepCase",
    "Task", "TcpPort", "TelemetryChoices", "Time", "Upload", "UploadAll", "Variable", "WindowMark", "Workflow",
    "WorkflowSettings",
]  # fmt: skip
