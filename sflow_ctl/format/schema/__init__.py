"""The file format, version "0.1", as types: every section and field with its meaning, but no checks.

One module per subject; other packages write `from sflow_ctl.format import schema` and `schema.Task`. Named sections are lists
here: the loader brings the mapping forms into this shape.
"""

from sflow_ctl.format.schema.backends import BACKEND_FIELDS, JOB_BACKENDS, Backend, DockerHost, Mail
from sflow_ctl.format.schema.definitions import (
    ARTIFACT_FIELDS,
    Artifact,
    Environment,
    EnvironmentSteps,
    Signature,
    SourcedFile,
    Variable,
    artifact_may_have,
    artifact_schemes,
)
from sflow_ctl.format.schema.dependencies import Dependency
from sflow_ctl.format.schema.document import (
    BlockInput,
    Document,
    Settings,
    SiteFile,
    TaskBlock,
    TelemetryChoices,
    Validation,
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
    ProgressLines,
    Restart,
    ResumeChoice,
    Retries,
    RetryCodes,
    Stop,
)
from sflow_ctl.format.schema.probes import (
    Condition,
    Exec,
    Http,
    LogWatch,
    PluginCheck,
    Probe,
    Probes,
    TcpPort,
)
from sflow_ctl.format.schema.results import (
    BestFile,
    Input,
    Metric,
    Output,
    Success,
    SuccessFile,
    SuccessJson,
    WorkflowInput,
    WorkflowOutput,
)
from sflow_ctl.format.schema.sweep import BlockLoop, Foreach, NumberSequence, Shuffle, Sweep, SweepCase
from sflow_ctl.format.schema.tasks import (
    External,
    File,
    GpuChoice,
    Gpus,
    Launcher,
    Nodes,
    Ports,
    PythonFunction,
    Replicas,
    Resources,
    ServedPort,
    Task,
)
from sflow_ctl.format.schema.uploads import STORAGE_NEEDS, Result, ResultPattern, Storage, Upload, UploadAll
from sflow_ctl.format.schema.values import VERSION, Flag, IntExpr, Part, Time

__all__ = [
    "ARTIFACT_FIELDS", "BACKEND_FIELDS", "CHOICES", "CONTAINER_ENGINES", "JOB_BACKENDS", "OPERATOR_FIELDS", "STORAGE_NEEDS",
    "VERSION", "Artifact",
    "Backend", "BestFile", "BlockInput", "BlockLoop", "Checkpoint", "CheckpointInjection", "Condition", "CustomScope",
    "Dependency", "DockerHost", "Document", "Environment", "EnvironmentSteps",
    "Exec", "External", "File", "Flag", "Foreach", "GpuChoice",
    "GpuScope", "Gpus", "Hang", "Http", "Input", "IntExpr", "Launcher", "LogWatch", "Mail", "Metric", "Monitor",
    "MonitorGpus",
    "MonitorNodes",
    "MonitorReport", "MonitorResources", "MonitorScope", "MonitorScopes", "MonitorWindow", "NamedWindow", "Nodes", "Notify",
    "NumberSequence",
    "Operator",
    "Output", "Part", "PluginCheck", "Ports", "Probe", "Probes", "ProgressLines", "PythonFunction",
    "Replicas", "Resources", "Restart", "Result", "ResultPattern",
    "ResumeChoice",
    "Retries", "RetryCodes",
    "ServedPort", "Settings", "Shuffle", "Signature", "SiteFile", "SourcedFile", "Stop", "Storage", "Success", "SuccessFile",
    "SuccessJson", "Sweep", "SweepCase",
    "Task", "TaskBlock", "TcpPort", "TelemetryChoices", "Time", "Upload", "UploadAll", "Validation", "Variable",
    "WindowMark", "Workflow",
    "WorkflowInput", "WorkflowOutput", "WorkflowSettings", "artifact_may_have", "artifact_schemes",
]  # fmt: skip
