import tempfile
import unittest
from pathlib import Path

import check_includes


def offences(path, *lines):
    return [(line, target) for line, target, _ in check_includes.check_text(path, "\n".join(lines))]


class CheckIncludesTest(unittest.TestCase):
    def test_leftward_and_own_module(self):
        self.assertEqual(offences("src/engine/engine.cc", '#include "engine/engine.h"', '#include "sched/request.h"',
                                  '#include "base/str.h"', '#include "spanwise/status.h"', "#include <vector>"), [])

    def test_rightward(self):
        self.assertEqual(offences("src/base/str.cc", "", '#include "kv/span.h"'), [(2, "kv/span.h")])
        self.assertEqual(offences("src/sched/scheduler.h", '#include "engine/engine.h"'), [(1, "engine/engine.h")])

    def test_same_level(self):
        self.assertEqual(len(offences("src/kv/span.cc", '#include "model/transformer.h"')), 1)
        self.assertEqual(len(offences("src/model/transformer.cc", '#include "kv/span.h"')), 1)
        self.assertEqual(offences("src/model/transformer.cc", '#include "kernels/kv_view.h"'), [])
        self.assertEqual(len(offences("src/server/http.cc", '#include "cli/flags.h"')), 1)
        self.assertEqual(offences("src/cli/serve.cc", '#include "server/http.h"'), [])

    def test_public_headers(self):
        self.assertEqual(offences("include/spanwise/engine.h", '#include "spanwise/status.h"'), [])
        self.assertEqual(len(offences("include/spanwise/engine.h", '#include "engine/engine.h"')), 1)

    def test_tests_include_anything(self):
        self.assertEqual(offences("tests/golden/models_test.cc", '#include "model/transformer.h"',
                                  '#include "kv/span.h"'), [])

    def test_module_tests_obey_the_table(self):
        self.assertEqual(len(offences("src/base/base_test.cc", '#include "engine/engine.h"')), 1)

    def test_confined_headers(self):
        self.assertEqual(len(offences("src/engine/executor.cc", "#include <immintrin.h>")), 1)
        self.assertEqual(offences("src/kernels/cpu/matmul_avx512.cc", "#include <immintrin.h>"), [])
        self.assertEqual(len(offences("src/kernels/ref/matmul.cc", '#include "hwy/highway.h"')), 1)
        self.assertEqual(len(offences("src/kernels/cpu/matmul.cc", "#include <cuda_runtime.h>")), 1)
        self.assertEqual(offences("src/kernels/cuda/matmul.cu", "#include <cuda_runtime.h>"), [])

    def test_form(self):
        self.assertEqual(len(offences("src/base/str.cc", '#include "str.h"')), 1)
        self.assertEqual(len(offences("src/base/str.cc", "#include <base/str.h>")), 1)
        self.assertEqual(offences("src/base/str.cc", "  #  include  <string>"), [])

    def test_comments_do_not_count(self):
        self.assertEqual(offences("src/base/str.cc", '// #include "kv/span.h"', "/*", '#include "kv/span.h"', "*/"), [])
        self.assertEqual(offences("src/base/a.cc", "/*", "*/", '#include "kv/span.h"'), [(3, "kv/span.h")])

    def test_unknown_module(self):
        self.assertEqual(len(offences("src/misc/a.cc", '#include "base/str.h"')), 1)

    def test_whole_tree(self):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "src", "base", "a.cc")
            source.parent.mkdir(parents=True)
            source.write_text('#include "base/str.h"\n')
            self.assertEqual(check_includes.main(["", folder]), 0)
            source.write_text('#include "kv/span.h"\n')
            self.assertEqual(check_includes.main(["", folder]), 1)

    def test_empty_tree_fails(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(check_includes.main(["", folder]), 1)


if __name__ == "__main__":
    unittest.main()
