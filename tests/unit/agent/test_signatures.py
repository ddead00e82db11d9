"""Signatures against lines of real programs: those that each must match, and those that it must not."""
# ruff: noqa: E501 - lines are as programs print them

from pathlib import Path

import msgspec
import pytest

import protocol
from protocol.diagnosis.reasons import LOG_WORDS
from protocol.diagnosis.signatures import Signature, problem_of, read_signatures
from protocol.text import line_pattern
from protocol.text.line_pattern import GIVEN_UP_AFTER
from sflow_agent.core.log_reading import MANY_LINES, LogExcerpt, LogReader, port_in

SHIPPED = read_signatures(
    Path(protocol.__file__).with_name("diagnosis").joinpath("signatures.toml").read_text()
)
READER = LogReader(SHIPPED)


def explained(text: str, *own: Signature) -> tuple[str, str] | None:
    """(word, line) for a log."""
    reader = LogReader((*own, *SHIPPED)) if own else READER
    found = reader.explanation([LogExcerpt(0, text.encode())], with_tracebacks=True)
    return None if found is None else (found.reason, found.line)


LINES: dict[str, list[str]] = {
    "port_in_use": [
        "OSError: [Errno 98] Address already in use",
        "OSError: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use",
        "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): [errno 98] address already in use",
        "Error: listen EADDRINUSE: address already in use :::3000",
        "2025/01/07 10:20:30 listen tcp :8080: bind: address already in use",
        "panic: listen tcp 127.0.0.1:6060: bind: address already in use",
        '{"level":"fatal","msg":"listen failed","error":"listen tcp 0.0.0.0:2379: bind: address already in use"}',
        "[1] 2025/01/07 10:20:30 [FTL] Error listening on port: 0.0.0.0:4222, \"listen tcp 0.0.0.0:4222: bind: address already in use\"",
        "terminate called after throwing an instance of 'std::system_error'  what():  bind: Address already in use",
        "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)",
        "# Warning: Could not create server TCP listening socket *:6379: bind: Address already in use",
        "zmq.error.ZMQError: Address already in use (addr='tcp://*:5555')",
        "java.net.BindException: Address already in use",
        "RuntimeError: The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use",
        "E0107 add_port.cc:83] Failed to add port to server: No address added out of total 1 resolved; errors: [Unable to bind, Address already in use]",
        "Error: Os { code: 98, kind: AddrInUse, message: \"Address already in use\" }",
        "Address already in use\nPort 5000 is in use by another program. Either identify and stop that program",
        "Error: Port 7860 is already allocated",
        "ERROR: port 30000 is already in use",
        "Bind for 0.0.0.0:8080 failed: port is already allocated; address already in use",
    ],
    "cuda_oom": [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB",
        "RuntimeError: CUDA out of memory. Tried to allocate 512.00 MiB (GPU 1; 39.59 GiB total capacity)",
        "RuntimeError: CUDA error: out of memory",
        "terminate called: cudaErrorMemoryAllocation: out of memory",
        "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.00 GiB",
        "[TensorRT-LLM][ERROR] CUDA runtime error in cudaMalloc(ptr, n): out of memory",
        "n07:123:456 [0] misc/cuda.cc:12 NCCL WARN Cuda failure 'out of memory'",
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
        "ValueError: Free memory on device (10.0/79.1 GiB) on startup is less than desired GPU memory utilization (0.9, 71.2 GiB)",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes.",
    ],
    "cuda": [
        "RuntimeError: CUDA error: device-side assert triggered",
        "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
        "RuntimeError: No CUDA GPUs are available",
        "RuntimeError: Found no NVIDIA driver on your system.",
        "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
        "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered",
        "Failed to initialize NVML: Driver/library version mismatch",
        "NVRM: Xid (PCI:0000:17:00): 79, GPU has fallen off the bus.",
    ],
    "nccl": [
        "torch.distributed.DistBackendError: NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1333",
        "ncclSystemError: System call (e.g. socket, malloc) or external library call failed",
        "RuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        "[rank1]:[E107 10:00:00 ProcessGroupNCCL.cpp:616] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3)",
        "n07:99:99 [1] socket.cc:540 NCCL WARN Net : Connection closed by remote peer n08<1234>",
        "n07:99:99 [1] NCCL WARN Call to connect returned Connection refused",
        "[rank0]:[E ProcessGroupNCCL.cpp:1] Some NCCL operations have failed or timed out. Due to the asynchronous nature",
        "RuntimeError: NCCL communicator was aborted on rank 1: ncclRemoteError",
        "RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error",
    ],
    "disk_full": [
        "OSError: [Errno 28] No space left on device",
        "cp: error writing '/data/x': No space left on device",
        "write /var/lib/x: no space left on device",
        "OSError: [Errno 122] Disk quota exceeded",
        "npm ERR! ENOSPC: no space left on device, write",
        "sqlite3.OperationalError: database or disk is full",
        "Bus error: /dev/shm: filesystem is full",
    ],
    "oom": [
        "slurmstepd: error: Detected 1 oom_kill event in StepId=123.0. Some of the step tasks have been OOM Killed.",
        "slurmstepd: error: Detected 2 oom-kill event(s) in step 5.batch cgroup.",
        "RuntimeError: DataLoader worker (pid 4123) is killed by signal: Killed.",
        "MemoryError",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array with shape (1000000000,)",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        'Exception in thread "main" java.lang.OutOfMemoryError: Java heap space',
        "bash: fork: Cannot allocate memory",
        "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
        "fatal error: runtime: out of memory",
        "memory allocation of 1073741824 bytes failed",
    ],
    "image": [
        "docker: Error response from daemon: pull access denied for nosuch, repository does not exist or may require 'docker login'",
        "Error: initializing source docker://x/y:1: reading manifest 1 in docker.io/x/y: requested access to the resource is denied",
        "docker: Error response from daemon: manifest for vllm:nope not found: manifest unknown",
        "slurmstepd: error: pyxis: child 4 failed with error code: 1; pyxis: failed to import docker image",
        "FATAL:   While making image from oci registry: error fetching image to cache",
    ],
    "launch": [
        "[proxy:0:0@n07] HYDU_create_process (../external/launcher.c:75): execvp error on file ./nope (No such file or directory)",
        "srun: error: Unable to create step for job 5: More processors requested than permitted",
        "srun: error: Unable to create step for job 5: Requested node configuration is not available",
    ],
}  # fmt: skip
"""Word to lines that say so, as they come from programs."""

INNOCENT = [
    "",
    "INFO:     Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)",
    "port 8000 is listening",
    "GPU memory in use: 98 %",
    "the port 8000 may be used by clients",
    "n07:99:99 [0] NCCL INFO Bootstrap : Using eth0:10.0.0.7<0>",
    "n07:99:99 [0] NCCL INFO comm 0x1 rank 0 nranks 8 - Init COMPLETE",
    "NCCL version 2.21.5+cuda12.4",
    "CUDA Version: 12.4  Driver Version: 550.54",
    "CUDA graphs: capturing 35 shapes",
    "loaded plugin cudaErrors.so",
    "memory left: 12 GiB, out of 80 GiB",
    "out of memory is no concern here",
    "writing to disk, 12 % full",
    "space left on device: 120 GiB",
    "test_address_already_used.py PASSED",
    "0 errors, 0 oom",
    "the room is full of boom-killers",
    "bloom-killer run",
    "a traceback was not needed",
    "Traceback of the route: n07, n08",
    "pulled image nvcr.io/nvidia/pytorch:24.05-py3",
    "ENOSPCX is not an error",
    "errno 0: Success",
]


@pytest.mark.parametrize(("word", "line"), [(word, line) for word, lines in LINES.items() for line in lines])
def test_lines_of_real_programs_are_recognised(word: str, line: str) -> None:
    found = explained(f"starting\nloading weights\n{line}\nbye\n")
    assert found is not None
    assert found[0] == word, found
    assert found[1] in line


@pytest.mark.parametrize("line", INNOCENT)
def test_unexplaining_lines_are_ignored(line: str) -> None:
    assert explained(f"starting\n{line}\nbye\n") is None


def test_every_signature_and_every_word_has_its_lines() -> None:
    assert {signature.reason for signature in SHIPPED} == set(LINES)
    assert set(LOG_WORDS) - {"traceback"} <= set(LINES)
    for signature in SHIPPED:
        alone = LogReader([signature])
        matched = [
            line
            for line in LINES[signature.reason]
            if alone.explanation([LogExcerpt(0, line.encode())], with_tracebacks=False)
        ]
        assert matched, signature.name


@pytest.mark.parametrize(
    ("line", "port"),
    [
        (LINES["port_in_use"][1], 8000),
        (LINES["port_in_use"][3], 3000),
        (LINES["port_in_use"][4], 8080),
        (LINES["port_in_use"][5], 6060),
        (LINES["port_in_use"][6], 2379),
        (LINES["port_in_use"][7], 4222),
        (LINES["port_in_use"][9], 80),
        (LINES["port_in_use"][10], 6379),
        (LINES["port_in_use"][11], 5555),
        (LINES["port_in_use"][13], 29500),
        ("ERROR: port 30000 is already in use", 30000),
        ("bind [::]:2380: address already in use", 2380),
        ("cannot listen on n07:9000: Address already in use", 9000),
        ("12:30:45 [server.py:88] OSError: [Errno 98] Address already in use", None),
        ("OSError: [Errno 98] Address already in use", None),
        (
            'Error listening on port: 127.0.0.1:24456, "listen tcp 127.0.0.1:24456: bind: address already in use"',
            24456,
        ),
        ("bind port 127.0.0.1:24456: address already in use", 24456),
        ("bind port 10.0.0.5:24456", 24456),
        ("port: [fd00::12]:2380 is in use", 2380),
        ("port number 24456 already in use", 24456),
        ("Failed to bind to port tcp/24456", 24456),
        ("Address already in use (0.0.0.0:24456)", 24456),
        ("[Errno 98] Address already in use: ('::', 24456, 0, 0)", 24456),
        ("tcp://0.0.0.0:24456: Address already in use", 24456),
        ("report 10.0.0.5: 3 errors", None),
    ],
)
def test_p10_the_port_in_a_message(line: str, port: int | None) -> None:
    assert port_in(line) == port


# ---------------------------------------------------------------------- which line


def test_the_first_line_that_explains_is_kept() -> None:
    log = "CUDA out of memory. Tried\nOSError: [Errno 28] No space left on device\n"
    assert explained(log) == ("cuda_oom", "CUDA out of memory. Tried")
    assert explained("\n".join(reversed(log.splitlines()))) == (
        "disk_full",
        "OSError: [Errno 28] No space left on device",
    )


def test_a_specific_line_wins_over_an_earlier_traceback() -> None:
    log = 'Traceback (most recent call last):\n  File "a.py", line 1\n    f()\nKeyError: 3\nncclSystemError: x\n'
    assert explained(log) == ("nccl", "ncclSystemError: x")


TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    f()\n    ^^^\n'


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (TRACEBACK + "ValueError: bad\nmore text\n", "ValueError: bad"),
        (TRACEBACK + "KeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\n" + TRACEBACK + "RuntimeError: y\n", "KeyError: 'x'"),
        (TRACEBACK + "KeyboardInterrupt\n" + TRACEBACK + "x.y.ConfigError\n", "x.y.ConfigError"),
        (TRACEBACK + "  File cut off", None),
        (TRACEBACK, None),
        ("".join(f"[rank3]: {one}\n" for one in (TRACEBACK + "AssertionError: no").splitlines()), "AssertionError: no"),
        ("".join(f"(Engine pid=7) ERROR 01-07 [core.py:1] {one}\n" for one in (TRACEBACK + "OSError: z").splitlines()), "OSError: z"),
        ("  + Exception Group Traceback (most recent call last):\n  |   File \"a\"\n  | ExceptionGroup: two (2 sub-exceptions)\n", "ExceptionGroup: two (2 sub-exceptions)"),
        (TRACEBACK.replace("\n", "\r\n") + "ValueError: dos\r\n", "ValueError: dos"),
        ("\x1b[31m" + TRACEBACK + "\x1b[1mValueError\x1b[0m: red\n", "ValueError: red"),
        (TRACEBACK + "assertion failed in a shell\n", None),
    ],
)  # fmt: skip
def test_the_exception_is_the_line_of_a_traceback(log: str, line: str | None) -> None:
    found = explained(log)
    assert (found[1] if found else None) == line


def test_a_traceback_does_not_explain_a_signal() -> None:
    piece = LogExcerpt(0, (TRACEBACK + "ValueError: x\n").encode())
    assert READER.explanation([piece], with_tracebacks=False) is None


def test_the_offset_of_the_line_is_in_bytes_of_the_log() -> None:
    log = "\x1b[1mé\x1b[0m\r\nprogress 1\rprogress 2\nNo space left on device\n".encode()
    found = READER.explanation([LogExcerpt(1000, log)], with_tracebacks=True)
    assert found is not None
    assert found.offset == 1000 + log.index(b"No space")


def test_the_end_of_a_log_counts_before_its_beginning() -> None:
    pieces = [LogExcerpt(10_000, b"CUDA out of memory. Tried\n"), LogExcerpt(0, b"No space left on device\n")]
    found = READER.explanation(pieces, with_tracebacks=True)
    assert found is not None
    assert (found.reason, found.offset) == ("cuda_oom", 10_000)


def doubt_of(log: str, *earlier: str) -> str:
    pieces = [LogExcerpt(10_000, log.encode()), *(LogExcerpt(0, one.encode()) for one in earlier)]
    found = READER.explanation(pieces, with_tracebacks=True)
    assert found is not None
    return found.doubt


def test_ux_6_a_line_that_the_program_may_have_overcome_is_a_guess() -> None:
    oom = "CUDA out of memory. Retrying with batch 8\n"
    error = TRACEBACK + "KeyError: 3\n"
    assert doubt_of(oom + error) == "its last error is KeyError: 3"
    assert doubt_of(oom + error + "bye\n") == "its last error is KeyError: 3"
    assert doubt_of("bye\n" + error, oom) == "its last error is KeyError: 3"
    assert (
        doubt_of("bye\n", oom)
        == doubt_of(oom + "step\n" * MANY_LINES)
        == "its log continued long after that line"
    )


def test_ux_6_a_line_that_the_end_of_the_log_agrees_with_is_none() -> None:
    error = TRACEBACK + "torch.OutOfMemoryError: CUDA out of memory. Tried\n"
    assert doubt_of(error) == ""
    assert doubt_of("CUDA out of memory. Tried\n" + error) == ""
    assert doubt_of(TRACEBACK + "KeyError: 3\n" + "CUDA out of memory. Tried\n") == ""
    assert doubt_of("CUDA out of memory. Tried\n" + "step\n" * 20) == ""


def test_a_line_without_an_end_is_searched_only_so_far() -> None:
    assert explained("x" * 100_000 + "No space left on device") is None
    assert explained("No space left on device" + "x" * 100_000) is not None


# ---------------------------------------------------------------------- of users


def test_a_signature_of_ones_own_has_its_sentence() -> None:
    own = Signature(
        name="l", reason="license", pattern=r"no seats? left(?: for (?P<who>\w+))?", text="{who}: no license"
    )
    reader = LogReader([own, *SHIPPED])
    found = reader.explanation([LogExcerpt(0, b"a\nno seat left for ann\n")], with_tracebacks=True)
    assert found is not None
    assert (found.reason, found.text) == ("license", "ann: no license")
    found = reader.explanation([LogExcerpt(0, b"no seats left\n")], with_tracebacks=True)
    assert found is not None
    assert found.text == "?: no license"


def test_on_one_line_ones_own_goes_first() -> None:
    own = Signature(name="mine", reason="mine", pattern="left on")
    assert explained("No space left on device\n", own) == ("mine", "No space left on device")


def test_a_match_must_lie_in_one_line() -> None:
    own = Signature(name="mine", reason="mine", pattern=r"alpha\s+beta|gamma")
    assert explained("alpha\nbeta\nalpha gamma\n", own) == ("mine", "alpha gamma")
    assert explained("alpha\nbeta\n", own) is None


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"pattern": "a("}, "pattern", "not a regular expression"),
        ({"pattern": ""}, "pattern", "empty"),
        ({"pattern": "x*"}, "pattern", "matches every line"),
        ({"reason": "Bad Word"}, "reason", "is not a word"),
        ({"reason": "node_lost"}, "reason", "cannot be found in a log"),
        ({"text": "{who} did it"}, "text", "not a named group"),
        ({"text": "{"}, "text", "not a sentence"),
    ],
)
def test_invalid_signatures(changes: dict[str, str], field: str, said: str) -> None:
    fields = {"name": "n", "reason": "mine", "pattern": "x", **changes}
    problem = problem_of(msgspec.convert(fields, Signature))
    assert problem is not None
    assert problem[0] == field
    assert said in problem[1]


def test_a_wrong_shipped_signature_is_named() -> None:
    with pytest.raises(ValueError, match='"bad"'):
        read_signatures('[[signature]]\nname = "bad"\nreason = "oom"\npattern = "("\n')


@pytest.mark.parametrize("tail", ["$", "$(?!x)"], ids=["linear", "needs_python"])
def test_r17_a_signature_with_nested_repetitions_does_not_hang(
    tail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines have 500 characters at most here, which is too much for Python's engine already."""
    asked: list[str] = []

    def give_up(_pattern: str, line: str, _limit: int) -> None:
        asked.append(line)

    monkeypatch.setattr(line_pattern, "_slow_engine", [give_up])
    own = Signature(name="nested", reason="own_word", pattern=f"^(a+)+{tail}")
    reader = LogReader((own, *SHIPPED))
    lines = "\n".join(["a" * 400 + "!"] * 5 + ["OSError: [Errno 98] Address already in use"])
    found = reader.explanation([LogExcerpt(0, lines.encode())], with_tracebacks=True)
    assert found is not None
    assert found.reason == "port_in_use"
    assert reader.problems == (
        []
        if tail == "$"
        else [
            f'signature nested: the pattern "{own.pattern}" takes too long on a line: write it without nested or neighbouring '
            "repetitions; it is searched no more"
        ]
    )
    assert len(asked) == (0 if tail == "$" else GIVEN_UP_AFTER)


def test_the_first_line_with_a_signature_counts_also_of_several_signatures() -> None:
    own = Signature(
        name="own", reason="own_word", pattern=r"^lost (?P<what>\w+)", text="{what} was lost: {line}"
    )
    assert explained("x\nCUDA out of memory\nlost disk now\n", own) == ("cuda_oom", "CUDA out of memory")
    found = LogReader((own,)).explanation(
        [LogExcerpt(7, "\u2588 lost it\n lost\nlost disk now\n".encode())], with_tracebacks=False
    )
    assert found is not None
    assert (found.text, found.offset) == ("disk was lost: lost disk now", 7 + 12 + 6)
