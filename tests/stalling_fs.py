"""A file system that can be made to stall: a FUSE daemon without libfuse that serves a directory under another path.

While the daemon is stopped, whatever touches the mount waits, as it does on a network file system whose server is gone; killing
the daemon ends the waiting with an error. SIGUSR1 stops it between two requests: who waits for one that it has read, and does
not answer, cannot even be killed. Used by tests; runs as `python -m tests.stalling_fs MOUNT BACKING`.
Source: Linux, include/uapi/linux/fuse.h, protocol 7.31.
"""

# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH115, PTH208, PTH211 - each call is passed on as it came

import contextlib
import ctypes
import errno
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_WRITE = 128 * 1024
_IN = struct.Struct("<IIQQIIII")
_OUT = struct.Struct("<IiQ")
_MS_NOSUID_NODEV = 6
_MNT_DETACH = 2
STALL = signal.SIGUSR1
"""Sent to the daemon, stops it between two requests; SIGCONT continues it."""
_libc = ctypes.CDLL(None, use_errno=True)


class StallingFs:
    """The daemon of one mount, as tests use it."""

    def __init__(self, mount: Path, backing: Path) -> None:
        """Serve `backing` at `mount`; both are made. Raises: OSError where FUSE cannot be mounted."""
        self.path = mount
        self._is_stalled = False
        for directory in (mount, backing):
            directory.mkdir(exist_ok=True)
        self._daemon = subprocess.Popen(
            [sys.executable, "-m", "tests.stalling_fs", str(mount), str(backing)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )
        assert self._daemon.stdout is not None
        if self._daemon.stdout.readline() != b"mounted\n":
            self._daemon.wait(10)
            raise OSError("the file system could not be mounted")

    def stall(self) -> None:
        """Answer nothing until `resume`, however often it is asked for."""
        if self._is_stalled:  # a second signal would wait, and stop the daemon after it was continued
            return
        self._is_stalled = True
        self._daemon.send_signal(STALL)
        os.waitid(os.P_PID, self._daemon.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Answer again."""
        self._is_stalled = False
        self._daemon.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Unmount; what waits gets an error."""
        self._daemon.kill()
        self._daemon.wait(10)
        assert self._daemon.stdout is not None
        self._daemon.stdout.close()
        _libc.umount2(str(self.path).encode(), _MNT_DETACH)


def can_mount() -> bool:
    """Return whether this process may mount a FUSE file system."""
    return os.access("/dev/fuse", os.R_OK | os.W_OK) and os.geteuid() == 0


class _Server:
    """Answers the kernel's requests from the backing directory."""

    def __init__(self, descriptor: int, backing: str) -> None:
        self._descriptor = descriptor
        self._paths = {1: backing}
        self._ids = {backing: 1}
        self._next = 2
        self._operations: dict[int, Callable[[int, memoryview], bytes]] = {
            1: self._lookup, 3: self._getattr, 4: self._setattr, 5: self._readlink, 6: self._symlink, 8: self._mknod,
            9: self._mkdir, 10: self._unlink, 11: self._rmdir, 12: self._rename, 13: self._link, 14: self._open,
            15: self._read, 16: self._write, 17: self._statfs, 18: self._release, 20: self._fsync,
            25: lambda *_: b"", 26: self._init, 27: lambda *_: bytes(16), 28: self._readdir, 29: lambda *_: b"",
            30: lambda *_: b"", 34: lambda *_: b"", 35: self._create, 45: self._rename2,
        }  # fmt: skip

    def serve(self) -> None:
        """Answer until the file system is unmounted."""
        os.set_blocking(self._descriptor, False)
        stalls, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakes)
        signal.signal(STALL, lambda *_: None)
        os.write(1, b"mounted\n")
        while True:
            if stalls in select.select([self._descriptor, stalls], [], [])[0]:
                os.read(stalls, 64)
                os.kill(os.getpid(), signal.SIGSTOP)
                continue
            try:
                request = os.read(self._descriptor, MAX_WRITE + 65536)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno == errno.ENOENT:  # the request was interrupted
                    continue
                return
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            if opcode in (2, 42, 36):  # forget, several of them, interrupt: without an answer
                continue
            error_number, body = 0, b""
            operation = self._operations.get(opcode)
            if operation is None:
                error_number = errno.ENOSYS
            else:
                try:
                    body = operation(node, memoryview(request)[_IN.size :])
                except OSError as error:
                    error_number = error.errno or errno.EIO
            with contextlib.suppress(OSError):
                os.write(self._descriptor, _OUT.pack(_OUT.size + len(body), -error_number, unique) + body)

    # ------------------------------------------------------------------ names

    def _child(self, node: int, name: memoryview) -> str:
        return f"{self._paths[node]}/{bytes(name).split(bytes(1))[0].decode()}"

    def _entry(self, path: str) -> bytes:
        info = os.lstat(path)
        if path not in self._ids:
            self._ids[path], self._next = self._next, self._next + 1
            self._paths[self._ids[path]] = path
        return struct.pack("<QQQQII", self._ids[path], 0, 0, 0, 0, 0) + _attributes(info)

    def _forget(self, path: str) -> None:
        self._ids.pop(path, None)

    def _moved(self, old: str, new: str) -> None:
        self._forget(new)
        for path in [one for one in self._ids if one == old or one.startswith(f"{old}/")]:
            node = self._ids.pop(path)
            self._paths[node] = new + path[len(old) :]
            self._ids[self._paths[node]] = node

    def _lookup(self, node: int, body: memoryview) -> bytes:
        return self._entry(self._child(node, body))

    def _readlink(self, node: int, _: memoryview) -> bytes:
        return os.readlink(self._paths[node]).encode()

    def _symlink(self, node: int, body: memoryview) -> bytes:
        name, target = bytes(body).split(bytes(1))[:2]
        path = f"{self._paths[node]}/{name.decode()}"
        os.symlink(target.decode(), path)
        return self._entry(path)

    def _mknod(self, node: int, body: memoryview) -> bytes:
        mode, device = struct.unpack_from("<II", body)
        path = self._child(node, body[16:])
        os.mknod(path, mode, device)
        return self._entry(path)

    def _mkdir(self, node: int, body: memoryview) -> bytes:
        path = self._child(node, body[8:])
        os.mkdir(path, struct.unpack_from("<I", body)[0] & 0o7777)
        return self._entry(path)

    def _unlink(self, node: int, body: memoryview) -> bytes:
        os.unlink(self._child(node, body))
        self._forget(self._child(node, body))
        return b""

    def _rmdir(self, node: int, body: memoryview) -> bytes:
        os.rmdir(self._child(node, body))
        self._forget(self._child(node, body))
        return b""

    def _rename(self, node: int, body: memoryview, skips: int = 8) -> bytes:
        (target,) = struct.unpack_from("<Q", body)
        old, new = bytes(body[skips:]).split(bytes(1))[:2]
        before, after = f"{self._paths[node]}/{old.decode()}", f"{self._paths[target]}/{new.decode()}"
        os.rename(before, after)
        self._moved(before, after)
        return b""

    def _rename2(self, node: int, body: memoryview) -> bytes:
        if struct.unpack_from("<QI", body)[1]:
            raise OSError(errno.EINVAL, "flags")
        return self._rename(node, body, skips=16)

    def _link(self, node: int, body: memoryview) -> bytes:
        path = self._child(node, body[8:])
        os.link(self._paths[struct.unpack_from("<Q", body)[0]], path)
        return self._entry(path)

    # ------------------------------------------------------------------ files

    def _init(self, _: int, body: memoryview) -> bytes:
        major, minor, readahead, _ = struct.unpack_from("<IIII", body)
        return struct.pack(
            "<IIIIHHIIHHI7I", major, min(minor, 31), readahead, 0, 16, 12, MAX_WRITE, 1, 0, 0, 0, *[0] * 7
        )

    def _getattr(self, node: int, _: memoryview) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + _attributes(os.lstat(self._paths[node]))

    def _setattr(self, node: int, body: memoryview) -> bytes:
        valid, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = (
            struct.unpack_from("<IIQQQQQQIIIIIIII", body)
        )
        path = self._paths[node]
        if valid & 1:
            os.chmod(path, mode & 0o7777)
        if valid & 6:
            os.chown(path, uid if valid & 2 else -1, gid if valid & 4 else -1)
        if valid & 8:
            os.truncate(path, size)
        if valid & 0x1B0:
            now, info = time.time_ns(), os.lstat(path)
            times = [
                now if valid & at_once else seconds * 10**9 + rest if valid & given else before
                for at_once, given, seconds, rest, before in (
                    (0x80, 0x10, atime, atime_ns, info.st_atime_ns),
                    (0x100, 0x20, mtime, mtime_ns, info.st_mtime_ns),
                )
            ]
            os.utime(path, ns=(times[0], times[1]))
        return self._getattr(node, body)

    def _open(self, node: int, body: memoryview) -> bytes:
        flags = struct.unpack_from("<I", body)[0] & ~(os.O_APPEND | os.O_CREAT | os.O_EXCL)
        return struct.pack("<QII", os.open(self._paths[node], flags | os.O_CLOEXEC), 1, 0)

    def _create(self, node: int, body: memoryview) -> bytes:
        flags, mode = struct.unpack_from("<II", body)
        path = self._child(node, body[16:])
        descriptor = os.open(path, (flags & ~os.O_APPEND) | os.O_CREAT | os.O_CLOEXEC, mode & 0o7777)
        return self._entry(path) + struct.pack("<QII", descriptor, 1, 0)

    def _read(self, _: int, body: memoryview) -> bytes:
        descriptor, offset, size = struct.unpack_from("<QQI", body)
        return os.pread(descriptor, size, offset)

    def _write(self, _: int, body: memoryview) -> bytes:
        descriptor, offset, size = struct.unpack_from("<QQI", body)
        return struct.pack("<II", os.pwrite(descriptor, body[40 : 40 + size], offset), 0)

    def _release(self, _: int, body: memoryview) -> bytes:
        os.close(struct.unpack_from("<Q", body)[0])
        return b""

    def _fsync(self, _: int, body: memoryview) -> bytes:
        os.fsync(struct.unpack_from("<Q", body)[0])
        return b""

    def _statfs(self, node: int, _: memoryview) -> bytes:
        info = os.statvfs(self._paths[node])
        return struct.pack(
            "<QQQQQIIII6I", info.f_blocks, info.f_bfree, info.f_bavail, info.f_files, info.f_ffree, info.f_bsize,
            info.f_namemax, info.f_frsize, 0, *[0] * 6,
        )  # fmt: skip

    def _readdir(self, node: int, body: memoryview) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        names, found = [".", "..", *sorted(os.listdir(self._paths[node]))], b""
        for position, name in enumerate(names[offset:], offset + 1):
            encoded = name.encode()
            entry = struct.pack("<QQII", position, position, len(encoded), 0) + encoded
            entry += bytes(-len(entry) % 8)
            if len(found) + len(entry) > size:
                break
            found += entry
        return found


def _attributes(info: os.stat_result) -> bytes:
    times = (info.st_atime_ns, info.st_mtime_ns, info.st_ctime_ns)
    return struct.pack(
        "<6Q10I", info.st_ino, info.st_size, info.st_blocks, *(one // 10**9 for one in times),
        *(one % 10**9 for one in times), info.st_mode, info.st_nlink, info.st_uid, info.st_gid, info.st_rdev, 4096, 0,
    )  # fmt: skip


@contextlib.contextmanager
def _mounted(mount: str) -> Iterator[int]:
    descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={descriptor},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other,default_permissions"
    if _libc.mount(b"stalling", mount.encode(), b"fuse", _MS_NOSUID_NODEV, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    try:
        yield descriptor
    finally:
        _libc.umount2(mount.encode(), _MNT_DETACH)


def main() -> None:
    """Serve until unmounted or killed."""
    mount, backing = sys.argv[1:]
    with _mounted(mount) as descriptor:
        _Server(descriptor, backing).serve()


if __name__ == "__main__":
    main()
