# SPDX-License-Identifier: MIT
"""Runs tests/e2e/test_*.py: each module on a cluster of its own, two side by side.

A module says in CLUSTER what `deploy/demo up` is given; its functions test_* get the
cluster, in the order written, and leave it as they found it or fail. A failed test
prints the daemons' last words; the tests after it in its module still run.
"""

import concurrent.futures
import glob
import importlib
import io
import os
import sys
import time
import traceback

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)

from cluster import Cluster, Failure  # noqa: E402

AT_ONCE = 2


def tests_of(module):
    found = [
        value
        for name, value in vars(module).items()
        if name.startswith("test_") and callable(value)
    ]
    return sorted(found, key=lambda test: test.__code__.co_firstlineno)


def run_module(name):
    """(passed, failed, report) of one module."""
    module = importlib.import_module(name)
    report = io.StringIO()
    passed = failed = 0
    cluster = Cluster(name.removeprefix("test_").replace("_", "-")[:16])
    began = time.monotonic()
    try:
        cluster.down()
        cluster.up(**module.CLUSTER)
        for test in tests_of(module):
            began_test = time.monotonic()
            try:
                test(cluster)
                passed += 1
                word = "ok"
            except Exception as error:  # a test that fails in any way has failed
                failed += 1
                word = "FAILED"
                if isinstance(error, Failure):
                    report.write(f"{error}\n")
                traceback.print_exc(file=report)
                report.write(cluster.last_words())
            report.write(
                f"{word:6} {name}.{test.__name__} "
                f"({time.monotonic() - began_test:.1f} s)\n"
            )
    except Exception:
        failed += 1
        traceback.print_exc(file=report)
    finally:
        try:
            cluster.down()
        except Exception:
            failed += 1
            traceback.print_exc(file=report)
    report.write(f"       {name}: {time.monotonic() - began:.1f} s\n")
    return passed, failed, report.getvalue()


def main(wanted):
    names = sorted(
        os.path.basename(path)[:-3] for path in glob.glob(os.path.join(HERE, "test_*.py"))
    )
    if wanted:
        names = [name for name in names if name in wanted or name[5:] in wanted]
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for done in concurrent.futures.as_completed(
            [pool.submit(run_module, name) for name in names]
        ):
            p, f, report = done.result()
            passed += p
            failed += f
            print(report, end="", flush=True)
    print(f"e2e: {passed} passed, 0 skipped, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
