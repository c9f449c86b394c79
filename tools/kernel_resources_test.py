"""python3 -m unittest tools/kernel_resources_test.py: that what the check is for is found."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import kernel_resources as kr

RULES = {
    "margin": {"registers": 8, "percent": 10},
    "instructions": [{"kind": "dot", "kernels": ["matvec_q*"], "targets": ["gfx11*"]}],
    "allowed": [{"kernels": ["large_*"], "scratch": 16, "reason": "x"}],
}


def row(**fields):
    zeros = dict.fromkeys(kr.COLUMNS[2:], 0)
    return {"file": "f", "kernel": "k", **zeros, "vgprs": 40, **fields}


def wrong(now, before, arch="gfx1100"):
    table = {(before["file"], before["kernel"]): before} if before else {("other", "other"): row()}
    return list(kr.wrong_of(now, arch, table, RULES))


class Check(unittest.TestCase):
    def test_what_is_as_before_is_right(self):
        self.assertEqual(wrong(row(), row()), [])
        self.assertEqual(wrong(row(vgprs=48), row()), [])
        self.assertEqual(wrong(row(kernel="large_1", scratch=16), row(kernel="large_1")), [])

    def test_what_is_worse_is_found(self):
        for now, said in [
            (row(scratch=4), "scratch is 4"),
            (row(vgpr_spills=1), "vgpr_spills is 1"),
            (row(sgpr_spills=2), "sgpr_spills is 2"),
            (row(vgprs=49), "49 registers, 40 in the table"),
            (row(lds=16), "16 bytes of LDS"),
        ]:
            found = wrong(now, row())
            self.assertEqual(len(found), 1, found)
            self.assertIn(said, found[0])
        self.assertEqual(len(wrong(row(kernel="large_1", scratch=20), row(kernel="large_1"))), 1)
        self.assertEqual(wrong(row(), None), ["is not in the table"])
        self.assertEqual(wrong(row(), row(matrix=8)), ["no matrix instructions, 8 in the table"])

    def test_claimed_instructions_must_be_there(self):
        q = row(kernel="matvec_q4_0")
        self.assertEqual(wrong(q, q), ["no dot instructions, which rules.toml claims"])
        self.assertEqual(wrong(q, q, "gfx1030"), [])
        self.assertEqual(wrong({**q, "dot": 3}, q), [])

    def test_waves(self):
        # The occupancy that LLVM's kernel-resource-usage remarks state for such kernels.
        for arch, vgprs, lds, threads, wave, waves in [
            ("gfx1100", 96, 0, 256, 32, 16),
            ("gfx1100", 97, 0, 256, 32, 12),
            ("gfx1030", 65, 0, 256, 32, 14),
            ("gfx90a", 129, 0, 256, 64, 3),
            ("gfx942", 64, 0, 256, 64, 8),
            ("gfx942", 64, 32 << 10, 256, 64, 2),
        ]:
            self.assertEqual(kr.amd_waves(arch, vgprs, 16, lds, threads, wave), waves, (arch, vgprs, lds))

    @unittest.skipUnless(shutil.which("clang-19") and shutil.which("llvm-objdump-19"), "without clang-19")
    def test_an_object_is_read(self):
        source = """#include "common/portable.h"
        KERNEL(uses_scratch, 64, (int* y, int i)) {
            int a[64];
            for (int j = 0; j < 64; j++) a[j] = y[j];
            a[(y[i] + thread_id()) & 63] = 1;
            y[thread_id()] = a[y[i] & 63];
        }
        KERNEL(uses_dot4, 256, (int* y)) {
            LDS(int, shared, 256);
            shared[thread_id()] = y[thread_id()];
            sync_threads();
            y[thread_id()] = dot4(shared[255 - thread_id()], y[1], y[2]);
        }"""
        with tempfile.TemporaryDirectory() as folder:
            hip, co = pathlib.Path(folder, "k.hip"), pathlib.Path(folder, "k.co")
            hip.write_text(source)
            for arch in ["gfx1100", "gfx942"]:
                flags = f"-x hip --offload-arch={arch} --cuda-device-only --no-gpu-bundle-output -nogpuinc -nogpulib -O3 -std=c++17"
                subprocess.run(["clang-19", *flags.split(), "-I", str(kr.ROOT / "kernels"), hip, "-o", co], check=True)
                rows = {r["kernel"]: r for r in kr.amd_rows(co.read_bytes(), arch)}
                self.assertEqual(set(rows), {"uses_scratch", "uses_dot4"})
                self.assertGreater(rows["uses_scratch"]["scratch"], 0)
                self.assertEqual((rows["uses_dot4"]["dot"], rows["uses_dot4"]["lds"], rows["uses_dot4"]["scratch"]), (1, 1024, 0))


if __name__ == "__main__":
    unittest.main()
