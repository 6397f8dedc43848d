"""`python tests/plan_child.py PACK --progress-json`: `python -m export.trt` itself, on a computer whose GPU and TensorRT are the
doubles of these tests. With MOUTHPIECE_TEST_SLOW the face's graph is built until someone stops it.
"""

import os
import sys
import time
from pathlib import Path

import pytest
import tyro


def main() -> None:
    """Builds as the command line says; the tiny graphs of the tests have nothing that halves could hold, hence fp32."""
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    from cuda_double import Cuda
    from tensorrt_double import TensorRt
    from trt_doubles import install

    from export import trt
    from export.progress import progress_lines

    with pytest.MonkeyPatch.context() as patch:
        machine, lines = install(patch, TensorRt(Cuda())), progress_lines()

        def wait_in_the_second() -> None:
            while machine.builds == 2 and not lines.cancelled:
                time.sleep(0.02)

        if "MOUTHPIECE_TEST_SLOW" in os.environ:
            machine.during_build = wait_in_the_second
            patch.setattr(trt, "progress_lines", lambda: lines)
        tyro.cli(trt.main, args=[*sys.argv[1:], "--precision", "fp32"])


if __name__ == "__main__":
    main()
