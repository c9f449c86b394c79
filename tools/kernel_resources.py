#!/usr/bin/env python3
"""What compiled device kernels take, read off their objects with no device: registers, spills, scratch, LDS, waves, dot and matrix
instructions. The objects are those that `cargo build` left in TARGET/gpu-kernels.

    tools/kernel_resources.py check           compare with kernels/resources/*.tsv and its rules.toml
    tools/kernel_resources.py update          write the tables
    tools/kernel_resources.py show gfx1100 [PATTERN]

Needs llvm-readelf and llvm-objdump for AMD's objects; NVIDIA's are read here.
"""

import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import tomllib
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLES = ROOT / "kernels" / "resources"
# vgprs: with accumulation registers where they are the same file. sgpr_spills: to lanes of vgprs, which is no memory where scratch is 0.
# scratch: bytes a thread, vgpr_spills with it. waves: of a SIMD (of a
# multiprocessor on NVIDIA) that registers and static LDS leave room for. dot, matrix: instructions in the code.
COLUMNS = ["file", "kernel", "vgprs", "sgprs", "vgpr_spills", "sgpr_spills", "scratch", "lds", "waves", "dot", "matrix"]
DOT = re.compile(r"\tv_dot[248]c?_")
MATRIX = re.compile(r"\tv_(wmma|swmmac|mfma|smfmac)_")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["check", "update", "show"])
    parser.add_argument("arch", nargs="?")
    parser.add_argument("pattern", nargs="?", default="*")
    parser.add_argument("--objects", type=pathlib.Path, help="the folder of objects (default: gpu-kernels in the target folder)")
    options = parser.parse_args()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = resources(options.objects or target / "gpu-kernels")
    if options.command == "show":
        for row in found.get(options.arch) or sys.exit(f"there are no objects for {options.arch}"):
            if fnmatch.fnmatch(row["kernel"], options.pattern):
                print(" ".join(f"{name} {row[name]}" for name in COLUMNS))
    elif options.command == "update":
        update(found)
    else:
        check(found)


# ---- objects ----------------------------------------------------------------------------------------------------------------------


def resources(folder):
    """Rows by target, from the objects that the last build listed."""
    index = folder / "index.tsv"
    if not index.exists():
        sys.exit(f"error: there is no {index}: build first, with a device compiler")
    objects = [line.split("\t") for line in index.read_text().splitlines()]
    # What was read before, by the names of objects, which stand for their content.
    memory = folder / "resources.json"
    known = json.loads(memory.read_text()) if memory.exists() else {}
    version = zlib.crc32(pathlib.Path(__file__).read_bytes())
    if known.get("version") != version:
        known = {"version": version}
    missing = [o for o in objects if o[2] not in known]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for (_, _, name), rows in zip(missing, pool.map(lambda o: read_object(folder, *o), missing)):
            known[name] = rows
    memory.write_text(json.dumps(known))
    found = {}
    for file, arch, name in objects:
        found.setdefault(arch, []).extend(dict(row, file=file) for row in known[name])
    for rows in found.values():
        rows.sort(key=lambda row: (row["file"], row["kernel"]))
    return found


def read_object(folder, file, arch, name):
    code = zlib.decompress((folder / name).read_bytes(), wbits=-15)
    # A file may have no kernels for a target.
    return nvidia_rows(code, arch) if arch.startswith("sm_") else amd_rows(code, arch)


def tool(name):
    """The newest of a versioned LLVM tool."""
    for candidate in [f"{name}-{v}" for v in range(30, 18, -1)] + [f"/opt/rocm/llvm/bin/{name}", name]:
        if path := shutil.which(candidate):
            return path
    sys.exit(f"error: there is no {name}; it comes with llvm-19 or ROCm")


def amd_rows(code, arch):
    with tempfile.NamedTemporaryFile(suffix=".co") as object_file:
        object_file.write(code)
        object_file.flush()
        run = lambda *command: subprocess.run([*command, object_file.name], check=True, capture_output=True, text=True).stdout
        notes = run(tool("llvm-readelf"), "--notes")
        assembly = run(tool("llvm-objdump"), "-d", "--no-show-raw-insn")
    counts, symbol = {}, None
    for line in assembly.splitlines():
        if line.endswith(">:"):
            symbol = line.split("<")[1][:-2]
        elif symbol:
            dot, matrix = counts.get(symbol, (0, 0))
            counts[symbol] = (dot + bool(DOT.search(line)), matrix + bool(MATRIX.search(line)))
    rows = []
    for part in re.split(r"^  - (?=\.)", notes.split("amdhsa.kernels:")[1], flags=re.M)[1:]:
        # Fields of a kernel stand at one depth, those of its arguments deeper.
        fields = dict(re.findall(r"^(?:    )?\.(\w+): +(.*)$", part, flags=re.M))
        number = lambda name: int(fields.get(name, 0))
        dot, matrix = counts.get(fields["name"], (0, 0))
        vgprs, lds, threads = number("vgpr_count"), number("group_segment_fixed_size"), number("max_flat_workgroup_size")
        rows.append({
            "kernel": fields["name"],
            "vgprs": vgprs,
            "sgprs": number("sgpr_count"),
            "vgpr_spills": number("vgpr_spill_count"),
            "sgpr_spills": number("sgpr_spill_count"),
            "scratch": number("private_segment_fixed_size"),
            "lds": lds,
            "waves": amd_waves(arch, vgprs, number("sgpr_count"), lds, threads, number("wavefront_size")),
            "dot": dot,
            "matrix": matrix,
        })
    return rows


def amd_waves(arch, vgprs, sgprs, lds, threads, wave):
    """Waves of a SIMD, from LLVM's AMDGPU usage tables: registers are given in granules, LDS to blocks of a compute unit (CDNA, 64 KiB) or
    of a work-group processor (RDNA, 128 KiB), each with four SIMDs."""
    up = lambda n, granule: -(-max(n, 1) // granule) * granule
    if arch in ("gfx90a", "gfx942", "gfx950", "gfx9-4-generic"):
        most, by_vgprs, by_sgprs, unit = 8, 512 // up(vgprs, 8), 800 // up(sgprs, 16), 64 << 10
    elif arch.startswith("gfx9"):
        most, by_vgprs, by_sgprs, unit = 10, 256 // up(vgprs, 4), 800 // up(sgprs, 16), 64 << 10
    else:
        # gfx1100, gfx1101, gfx1151 and RDNA4 have half as many registers again.
        large = arch in ("gfx1100", "gfx1101", "gfx1151", "gfx1200", "gfx1201", "gfx12-generic")
        granule = 8 if arch.startswith("gfx10") else 24 if large else 16
        most, by_vgprs, by_sgprs, unit = 16, (1536 if large else 1024) // up(vgprs, granule), 16, 128 << 10
    waves = min(most, by_vgprs, by_sgprs)
    block = -(-threads // wave)
    if lds:
        waves = min(waves, max(1, unit // up(lds, 512) * block // 4))
    return waves


# ---- NVIDIA's objects -------------------------------------------------------------------------------------------------------------

REGISTERS, FRAME = 0x2F, 0x11  # attributes of .nv.info: symbol and value
IDP, HMMA, IMMA, BMMA, DMMA, HGMMA, IGMMA = 0x226, 0x23C, 0x237, 0x23D, 0x23F, 0x5F0, 0x5F1  # the low 12 bits of an instruction


def nvidia_rows(code, arch):
    sections, symbols = elf(code)
    registers, frames = {}, {}
    info = sections.get(".nv.info", b"")
    at = 0
    while at + 4 <= len(info):
        kind, attribute, size = struct.unpack_from("<BBH", info, at)
        if kind == 4 and attribute in (REGISTERS, FRAME):
            symbol, value = struct.unpack_from("<II", info, at + 4)
            (registers if attribute == REGISTERS else frames)[symbols[symbol]] = value
        at += 4 + (size if kind == 4 else 0)
    rows = []
    for name, body in sections.items():
        if not name.startswith(".text."):
            continue
        kernel = name.removeprefix(".text.")
        opcodes = [struct.unpack_from("<H", body, i)[0] & 0xFFF for i in range(0, len(body) - 15, 16)]
        attributes = sections[".nv.info." + kernel]
        # From sm_90 on the section begins with 1 KiB that the driver keeps for itself.
        shared = len(sections.get(".nv.shared." + kernel, b""))
        shared = max(0, shared - 1024) if int(arch.removeprefix("sm_")) >= 90 else shared
        threads = max_threads(attributes)
        rows.append({
            "kernel": kernel,
            "vgprs": registers[kernel],
            "sgprs": 0,
            "vgpr_spills": 0,
            "sgpr_spills": 0,
            "scratch": frames.get(kernel, 0),
            "lds": shared,
            "waves": nvidia_warps(registers[kernel], shared, threads),
            "dot": sum(o == IDP for o in opcodes),
            "matrix": sum(o in (HMMA, IMMA, BMMA, DMMA, HGMMA, IGMMA) for o in opcodes),
        })
    return rows


def max_threads(attributes):
    """Of a kernel's .nv.info: the threads of __launch_bounds__."""
    at = 0
    while at + 4 <= len(attributes):
        kind, attribute, size = struct.unpack_from("<BBH", attributes, at)
        if kind == 4 and attribute == 0x05:
            return struct.unpack_from("<I", attributes, at + 4)[0]
        at += 4 + (size if kind == 4 else 0)
    return 1024


def nvidia_warps(registers, shared, threads):
    """Warps of a multiprocessor of sm_80 and sm_90: 65536 registers, given to a warp by 256; 64 warps; at least 164 KiB of shared
    memory, with 1 KiB more for each block."""
    warps = -(-threads // 32)
    blocks = min(65536 // (-(-max(registers, 1) * 32 // 256) * 256) // warps, 64 // warps, (164 << 10) // (shared + 1024))
    return max(1, blocks * warps)


def elf(code):
    """Sections by name, and the names of symbols."""
    offset, = struct.unpack_from("<Q", code, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", code, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", code, offset + i * size) for i in range(count)]
    text = lambda table, at: code[table[4] + at:code.index(b"\0", table[4] + at)].decode()
    sections, symbols = {}, []
    for header in headers:
        no_bits = header[1] == 8
        sections[text(headers[names_index], header[0])] = bytes(header[5]) if no_bits else code[header[4]:header[4] + header[5]]
        if header[1] == 2:
            names = headers[header[6]]
            for at in range(header[4], header[4] + header[5], 24):
                symbols.append(text(names, struct.unpack_from("<I", code, at)[0]))
    return sections, symbols


# ---- tables -----------------------------------------------------------------------------------------------------------------------


def update(found):
    TABLES.mkdir(exist_ok=True)
    for arch, rows in found.items():
        lines = ["\t".join(COLUMNS)] + ["\t".join(str(row[c]) for c in COLUMNS) for row in rows]
        (TABLES / f"{arch}.tsv").write_text("\n".join(lines) + "\n")
    print(f"wrote {len(found)} tables; read the difference before it is committed")


def read_table(arch):
    path = TABLES / f"{arch}.tsv"
    if not path.exists():
        return {}
    lines = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    rows = [dict(zip(COLUMNS, line[:2] + [int(n) for n in line[2:]])) for line in lines]
    return {(row["file"], row["kernel"]): row for row in rows}


def check(found):
    rules = tomllib.loads((TABLES / "rules.toml").read_text())
    wrong, kernels = [], 0
    for arch, rows in found.items():
        table = read_table(arch)
        if not table:
            wrong.append(f"{arch}: there is no table of it")
        for row in rows:
            kernels += 1
            wrong += [f"{arch}: {row['file']}.hip, {row['kernel']}: {w}" for w in wrong_of(row, arch, table, rules)]
        there = {(row["file"], row["kernel"]) for row in rows}
        wrong += [f"{arch}: {key[0]}.hip, {key[1]}: stands in the table and is no more" for key in table if key not in there]
    for claim in rules.get("instructions", []):
        named = [row for arch, rows in found.items() for row in rows if applies(claim, row, arch)]
        if not named and any(fnmatch.fnmatch(arch, a) for arch in found for a in claim["targets"]):
            wrong.append(f"rules.toml: no kernel is {claim['kernels']} for {claim['targets']}")
    absent = sorted(path.stem for path in TABLES.glob("*.tsv") if path.stem not in found)
    if absent:
        print(f"note: there are no objects for {', '.join(absent)}: their tables are not compared")
    if wrong:
        print("\n".join(wrong))
        sys.exit(f"error: {len(wrong)} findings in kernels' resources; where a change is meant: tools/kernel_resources.py update")
    print(f"resources of {kernels} kernels for {len(found)} targets are as in the tables")


def applies(rule, row, arch):
    matches = lambda name, patterns: any(fnmatch.fnmatch(name, p) for p in patterns)
    return matches(row["kernel"], rule["kernels"]) and matches(arch, rule.get("targets", ["*"]))


def wrong_of(row, arch, table, rules):
    for kind in ("vgpr_spills", "sgpr_spills", "scratch"):
        allowed = max((rule.get(kind, 0) for rule in rules.get("allowed", []) if applies(rule, row, arch)), default=0)
        if row[kind] > allowed:
            yield f"{kind} is {row[kind]}, allowed is {allowed}"
    for claim in rules.get("instructions", []):
        if applies(claim, row, arch) and row[claim["kind"]] == 0:
            yield f"no {claim['kind']} instructions, which rules.toml claims"
    if not table:
        return
    before = table.get((row["file"], row["kernel"]))
    if before is None:
        yield "is not in the table"
        return
    margin = rules["margin"]
    if row["vgprs"] > before["vgprs"] + max(margin["registers"], before["vgprs"] * margin["percent"] // 100):
        yield f"{row['vgprs']} registers, {before['vgprs']} in the table"
    if row["lds"] > before["lds"]:
        yield f"{row['lds']} bytes of LDS, {before['lds']} in the table"
    for kind in ("dot", "matrix"):
        if before[kind] and not row[kind]:
            yield f"no {kind} instructions, {before[kind]} in the table"


if __name__ == "__main__":
    main()
