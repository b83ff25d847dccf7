"""Nothing depends on a Unix: neither on its functions, nor on its encodings."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EVERY_FAMILY = Path(__file__).with_name("every_family.py")

# Of CPython's documentation: "Availability: Unix", Linux or POSIX, and not Windows.
UNIX_OF_OS = """
    chown chroot confstr ctermid fchdir fchmod fchown fdatasync fork forkpty fpathconf fstatvfs fwalk getegid
    geteuid getgid getgrouplist getgroups getloadavg getpgid getpgrp getpriority getresgid getresuid getsid
    getuid initgroups killpg lchown lockf major makedev memfd_create minor mkfifo mknod nice openpty pathconf
    pipe2 posix_fadvise posix_fallocate posix_openpt posix_spawn posix_spawnp pread preadv pwrite pwritev readv
    register_at_fork sched_getaffinity sched_getparam sched_getscheduler sched_setaffinity sched_yield sendfile
    setegid seteuid setgid setgroups setpgid setpriority setregid setreuid setsid setuid statvfs sync sysconf
    tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid WNOHANG writev
"""
UNIX_OF_SIGNAL = """
    SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG
    SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ ITIMER_REAL alarm getitimer pause pthread_kill
    pthread_sigmask setitimer siginterrupt sigpending sigtimedwait sigwait sigwaitinfo
"""
UNIX_MODULES = """
    fcntl grp posix pwd pty readline resource syslog termios
"""


def test_the_lists_name_what_this_python_has() -> None:
    assert {"fork", "register_at_fork", "sched_getaffinity"} <= set(UNIX_OF_OS.split())
    if os.name == "posix":
        assert sum(hasattr(os, name) for name in UNIX_OF_OS.split()) > 50
        assert sum(hasattr(signal, name) for name in UNIX_OF_SIGNAL.split()) > 20


def test_every_family_without_the_names_that_windows_lacks() -> None:
    code = f"""
import os, runpy, signal, sys
# The interpreter's own start-up and the dependencies are not what is tested: they have other code on Windows.
import numpy, threading, subprocess, multiprocessing, scipy.sparse, threadpoolctl, importlib.resources
threadpoolctl.ThreadpoolController()  # keeps the C library, which it finds by os.uname on Linux
for module, names in ((os, {UNIX_OF_OS.split()}), (signal, {UNIX_OF_SIGNAL.split()})):
    # The subprocess module that is imported is that of this system, and uses two of them.
    for name in {{*names}} - {{"WNOHANG", "SIGKILL"}}:
        vars(module).pop(name, None)
for name in {UNIX_MODULES.split()}:
    sys.modules[name] = None
runpy.run_path({str(EVERY_FAMILY)!r})
import arrayops
arrayops.set_num_threads(2)
large = numpy.ones((2, 8, 128, 128), numpy.float32)
assert arrayops.pac_conv2d(large, large, numpy.ones((8, 8, 3, 3), numpy.float32)).shape == (2, 8, 126, 126)
"""
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-W", "error::EncodingWarning:arrayops", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "one call of each family" in done.stdout
