"""The emulator of GPUs (gpu/) on small kernels in PTX: what it computes, what it finds, what it refuses."""

import math
import struct

import numpy as np
import pytest
from gpu.opcodes import UnsupportedError
from gpu.program import KINDS, Program

pytestmark = pytest.mark.usefixtures("compiler")

ORDERS = {"forward": 0, "backward": 1, "random": 7}
KERNEL = """
.version 8.0
.target sm_90
.address_size 64
.visible .entry kernel(.param .u64 .ptr .global .align 8 kernel_out, .param .u64 kernel_in)
{{
    .reg .pred %p<8>;
    .reg .b16 %h<8>;
    .reg .b32 %r<64>;
    .reg .f32 %f<16>;
    .reg .b64 %rd<64>;
    .reg .f64 %d<64>;
    .shared .align 16 .b8 words[256];
    ld.param.u64 %rd1, [kernel_out];
    ld.param.u64 %rd2, [kernel_in];
    mov.u32 %r1, %tid.x;
    shl.b32 %r2, %r1, 2;        // this thread's word
    add.s32 %r3, %r1, 1;
    and.b32 %r3, %r3, 31;
    shl.b32 %r4, %r3, 2;        // the next one's
    mul.wide.u32 %rd3, %r1, 8;
    add.s64 %rd3, %rd1, %rd3;   // this thread's number of the output
    .loc 1 7 3
{body}
    ret;
}}
    .file 1 "/somewhere/kernel.cu"
"""


def run(body, threads=32, blocks=1, given=(), order=0, size=64):
    """The output, as 64-bit integers, and what the run was."""
    program = Program(KERNEL.format(body=body))
    out, given = np.zeros(size, dtype=np.int64), np.array(given, dtype=np.float64)
    memory = [(out.ctypes.data, out.nbytes), (given.ctypes.data, given.nbytes)]
    arguments = [struct.pack("<q", at) for at, _ in memory]
    return out, program.launch("kernel", blocks, threads, arguments, memory, order=order)


def kinds(result):
    return {finding.kind for finding in result.findings}


READ_WRITE, WRITE_READ, WRITES, OUT, MISALIGNED, READ_ONLY, OUTSIDE, APART, WARP_APART, DEADLOCK = KINDS
WRITE, READ = "st.shared.u32 [%r2], %r1;", "ld.shared.u32 %r5, [%r4];"


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize(
    ("body", "found"),
    [
        (f"{WRITE} bar.sync 0; {READ}", set()),
        (f"{WRITE} bar.warp.sync -1; {READ}", set()),
        (f"{WRITE} {READ}", {READ_WRITE, WRITE_READ}),
        (f"{READ} bar.sync 0; {WRITE}", set()),
        (f"{READ} {WRITE}", {READ_WRITE, WRITE_READ}),
        ("st.shared.u32 [words+8], %r1;", {WRITES}),
        ("st.shared.u32 [words+8], 5;", set()),  # copies of one number
        ("st.shared.u8 [%r1], 0; ld.shared.u8 %h1, [%r1];", set()),  # bytes of one word, each its thread's
        (f"{WRITE} shfl.sync.idx.b32 %r6, %r1, 0, 31, -1; {READ}", {READ_WRITE, WRITE_READ}),  # orders no memory
    ],
)
def test_races_of_a_warp(body, found, order):
    _, result = run(body, order=order)
    assert kinds(result) <= found  # which of the two comes first depends on the order
    assert bool(result.findings) == bool(found)
    assert result.ended


def test_a_finding_says_where():
    (finding,) = run(f"{WRITE} .loc 1 9 1\n ld.shared.u32 %r5, [words+4];", threads=2)[1].findings
    assert str(finding) == (
        "a write where another thread read with no barrier between: st.shared.u32 of kernel at kernel.cu:7 in thread "
        "(0, 1), before it ld.shared.u32 of kernel at kernel.cu:9 in thread (0, 0), shared memory 0x4, 1 times"
    )


@pytest.mark.parametrize(("mask", "found"), [(0xFF, False), (0x0F, True)], ids=["eight", "four"])
def test_lanes_are_ordered_with_those_of_their_mask(mask, found):
    """Each group of eight lanes, or only of four, waits; then each lane reads what its neighbour of eight wrote."""
    group = "and.b32 %r6, %r1, 24;" if mask == 0xFF else "and.b32 %r6, %r1, 28;"
    body = (
        f"{WRITE} {group} shl.b32 %r7, {mask}, %r6; bar.warp.sync %r7; xor.b32 %r8, %r2, 16; ld.shared.u32 %r9, [%r8];"
    )
    assert kinds(run(body, order=7)[1]) == ({READ_WRITE, WRITE_READ} if found else set())


def test_a_barrier_of_one_warp_does_not_order_another():
    other = "xor.b32 %r6, %r2, 128; ld.shared.u32 %r7, [%r6];"
    assert kinds(run(f"{WRITE} bar.warp.sync -1; {other}", threads=64)[1]) & {READ_WRITE, WRITE_READ}
    assert kinds(run(f"{WRITE} bar.sync 0; {other}", threads=64)[1]) == set()


def test_blocks_are_ordered_by_nothing_but_may_add():
    body = "mov.u32 %r5, %ctaid.x; cvt.u64.u32 %rd5, %r5;"
    assert kinds(run(f"{body} st.global.u64 [%rd3], %rd5;", blocks=2)[1]) == {WRITES}
    out, result = run("atom.global.add.u64 %rd5, [%rd1], 1; red.global.max.u64 [%rd1+8], %rd5;", blocks=2)
    assert out[:2].tolist() == [64, 63]
    assert kinds(result) == set()


ONE = "setp.lt.s32 %p1, %r1, 8; @%p1 bra ONE; {} bra END; ONE: {} END:"  # one thing in some lanes, another in others


LOCK = "@%p2 atom.global.{}add.u64 %rd5, [%rd1+256], 1;"


@pytest.mark.parametrize(
    ("release", "acquire", "found"),
    [
        ("bar.sync 0;" + LOCK.format("acq_rel.gpu."), LOCK.format("acq_rel.gpu.") + "bar.sync 0;", set()),
        ("bar.sync 0;" + LOCK.format(""), LOCK.format("") + "bar.sync 0;", {WRITES}),  # relaxed
        (LOCK.format("acq_rel.gpu."), LOCK.format("acq_rel.gpu.") + "bar.sync 0;", {WRITES}),
        ("bar.sync 0;" + LOCK.format("acq_rel.gpu."), LOCK.format("acq_rel.gpu."), {WRITES}),
    ],
    ids=["ordered", "relaxed", "no barrier before the release", "no barrier after the acquisition"],
)
def test_blocks_are_ordered_by_atomic_operations_that_say_so(release, acquire, found):
    """Threads of a block write, one of them releases; in the next block one acquires, and others write."""
    other = "xor.b32 %r5, %r1, 1; mul.wide.u32 %rd6, %r5, 8; add.s64 %rd6, %rd1, %rd6;"
    value = "mov.u32 %r6, %ctaid.x; cvt.u64.u32 %rd7, %r6; setp.ne.s32 %p1, %r6, 0; setp.eq.s32 %p2, %r1, 0;"
    first = f"st.global.u64 [%rd3], %rd7; {release} bra END;"
    second = f"ONE: {acquire} st.global.u64 [%rd6], %rd7; END:"
    _, result = run(f"{other} {value} @%p1 bra ONE; {first} {second}", threads=4, blocks=2)
    assert kinds(result) == found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("ld.shared.u32 %r5, [words+256];", OUT),
        ("ld.global.u64 %rd5, [%rd1+512];", OUT),
        ("ld.u64 %rd5, [%rd1+-8];", OUT),
        ("ld.shared.u64 %rd5, [words+4];", MISALIGNED),
        ("ld.global.v2.u64 {%rd5, %rd6}, [%rd1+8];", MISALIGNED),
        ("mov.b64 %rd5, kernel_in; st.u64 [%rd5], %rd1;", READ_ONLY),
        ("shfl.sync.idx.b32 %r5, %r1, 0, 31, 1;", OUTSIDE),
        ("bar.warp.sync 2;", OUTSIDE),
        ("setp.eq.s32 %p1, %r1, 3; @%p1 bra END; bar.warp.sync -9; shfl.sync.bfly.b32 %r5, %r1, 1, 31, -1; END:", None),
        ("setp.eq.s32 %p1, %r1, 3; @%p1 bar.warp.sync -1; bar.sync 0;", DEADLOCK),
        (ONE.format("bar.sync 0;", "bar.warp.sync -1;"), DEADLOCK),
        (ONE.format("bar.sync 0;", "bar.sync 0;"), WARP_APART),
        (ONE.format("bar.warp.sync -1;", "bar.warp.sync -1;"), APART),
    ],
)
def test_faults(body, found):
    _, result = run(body)
    # a thread that has ended is waited for by none, but there is nothing to be had from it
    assert kinds(result) == ({found} if found else {OUTSIDE})
    assert result.ended == (found in (None, APART, WARP_APART))


def test_one_thread_that_waits_for_others_that_have_ended_goes_on():
    assert run("setp.ne.s32 %p1, %r1, 3; @%p1 ret; bar.sync 0;", threads=64)[1].ended


def shuffled(mode, lane, by, width):
    first = lane // width * width
    asked = {"up": lane - by, "down": lane + by, "bfly": lane ^ by, "idx": first + by % width}[mode]
    return asked if first <= asked < first + width else lane


@pytest.mark.parametrize("width", [8, 32])
@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shuffles(mode, width):
    limits = (32 - width) << 8 | (0 if mode == "up" else 31)
    body = f"shfl.sync.{mode}.b32 %r5|%p1, %r1, 3, {limits}, -1; selp.b32 %r6, 256, 0, %p1; or.b32 %r5, %r5, %r6; "
    out, _ = run(body + "cvt.u64.u32 %rd5, %r5; st.global.u64 [%rd3], %rd5;")
    lanes = [shuffled(mode, lane, 3, width) for lane in range(32)]
    assert [v & 255 for v in out[:32]] == lanes
    reached = [lane != i or mode == "idx" for i, lane in enumerate(lanes)]
    assert [bool(v & 256) for v in out[:32]] == reached


def test_votes_and_reductions():
    store = "cvt.u64.u32 %rd5, %r6; st.global.u64 [%rd3], %rd5;"
    odd = "and.b32 %r5, %r1, 1; setp.ne.s32 %p1, %r5, 0;"
    assert set(run(f"{odd} vote.sync.ballot.b32 %r6, %p1, -1; {store}")[0][:32]) == {0xAAAAAAAA}
    total = "sub.s32 %r5, %r1, 40; redux.sync.{}.s32 %r6, %r5, -1; " + store
    expected = {"add": sum(range(-40, -8)), "max": -9, "min": -40}
    for how, value in expected.items():
        assert {np.int32(np.uint32(v)) for v in run(total.format(how))[0][:32]} == {np.int32(value)}


@pytest.mark.parametrize(("m", "k"), [(8, 4), (16, 4), (16, 8), (16, 16)])
def test_products_of_matrices(m, k):
    """The entries are where the description of the instruction says (PTX ISA, Matrix Fragments for mma)."""
    rng = np.random.default_rng(0)
    A, B, C = rng.standard_normal((m, k)), rng.standard_normal((k, 8)), rng.standard_normal((m, 8))
    lanes = [divmod(lane, 4) for lane in range(32)]
    a = [[A[g + 8 * (i % (m // 8)), q + 4 * (i // (m // 8))] for i in range(m * k // 32)] for g, q in lanes]
    b = [[B[q + 4 * i, g] for i in range(k // 4)] for g, q in lanes]
    c = [[C[g + 8 * (i // 2), 2 * q + i % 2] for i in range(m // 4)] for g, q in lanes]
    each = len(a[0]) + len(b[0]) + len(c[0])
    loads = " ".join(f"ld.global.f64 %d{i}, [%rd4+{8 * i}];" for i in range(each))
    names = [f"%d{i}" for i in range(each)]
    parts = names[: len(a[0])], names[len(a[0]) : len(a[0]) + len(b[0])], names[-len(c[0]) :]
    vectors = ", ".join(f"{{{', '.join(part)}}}" for part in (parts[2], *parts))
    product = f"mma.sync.aligned.m{m}n8k{k}.row.col.f64.f64.f64.f64 {vectors};"
    stores = " ".join(f"st.global.f64 [%rd5+{8 * i}], {name};" for i, name in enumerate(parts[2]))
    body = f"mul.wide.u32 %rd4, %r1, {8 * each}; add.s64 %rd4, %rd2, %rd4; {loads} {product}"
    body += f"mul.wide.u32 %rd5, %r1, {8 * len(c[0])}; add.s64 %rd5, %rd1, %rd5; {stores}"
    out, _ = run(body, given=[x for parts in zip(a, b, c, strict=True) for part in parts for x in part], size=8 * m)
    D = A @ B + C
    expected = [[D[g + 8 * (i // 2), 2 * q + i % 2] for i in range(m // 4)] for g, q in lanes]
    np.testing.assert_allclose(out.view(np.float64), np.ravel(expected), rtol=1e-13, atol=1e-13)


def test_matrices_between_registers_and_shared_memory():
    """Lane 4 r + q has word q of row r; rows are where lanes say, here 16 bytes apart and backwards."""
    rows = "and.b32 %r10, %r1, 15; sub.s32 %r10, 15, %r10; shl.b32 %r10, %r10, 4; add.s32 %r6, %r1, 100;"
    store = "stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r10], {%r1, %r6}; bar.warp.sync -1;"
    load = "ld.shared.u32 %r7, [%r2]; ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r8, %r9}, [%r10];"
    out, found = run(rows + store + load + "st.global.v2.u32 [%rd3], {%r7, %r9};")
    lane = np.arange(32)
    word = (7 - lane // 4) * 4 + lane % 4 + 100  # the last row of the second matrix comes first
    np.testing.assert_array_equal(out[:32].view(np.int32).reshape(32, 2), np.stack([word, lane + 100], 1))
    assert not found.findings
    assert found.counts["kernel", "store shared"] == 32 * 2
    _, raced = run(rows + store.replace("bar.warp.sync -1;", "") + load)
    assert kinds(raced) == {READ_WRITE, WRITE_READ}
    with pytest.raises(UnsupportedError, match="stmatrix"):
        run(rows + store.replace(".x2", ".x2.trans"))


def bits(v):
    return struct.unpack("<q", struct.pack("<d", v))[0]


def double(v):
    return "0d" + struct.pack(">d", v).hex().upper()


NAN, HALF, THIRD = (double(v) for v in (math.nan, 0.5, 1 / 3))
PURE = {  # the value that each instruction leaves in %rd5
    "sub.s32 %r5, 3, 5; cvt.s64.s32 %rd5, %r5;": -2,
    "mul.hi.u32 %r5, 0xffffffff, 16; cvt.u64.u32 %rd5, %r5;": 15,
    "mul.wide.s32 %rd5, -3, 1000000000;": -3_000_000_000,
    "mad.lo.s32 %r5, 3, 5, -20; cvt.s64.s32 %rd5, %r5;": -5,
    "div.s32 %r5, -7, 2; cvt.s64.s32 %rd5, %r5;": -3,
    "rem.s32 %r5, -7, 2; cvt.s64.s32 %rd5, %r5;": -1,
    "shr.s32 %r5, -8, 40; cvt.s64.s32 %rd5, %r5;": -1,
    "shl.b64 %rd5, 1, 64;": 0,
    "bfe.s32 %r5, 0xf0, 4, 4; cvt.s64.s32 %rd5, %r5;": -1,
    "bfe.u32 %r5, 0xabcd, 4, 8; cvt.u64.u32 %rd5, %r5;": 0xBC,
    "bfi.b32 %r5, 0xffffffab, 0x12345678, 8, 12; cvt.u64.u32 %rd5, %r5;": 0x123FAB78,
    "prmt.b32 %r5, 0x44332281, 0x88776655, 0x7048; cvt.u64.u32 %rd5, %r5;": 0x888155FF,
    "popc.b64 %r5, -1; cvt.u64.u32 %rd5, %r5;": 64,
    "mov.b64 {%r5, %r6}, 0x100000002; cvt.u64.u32 %rd5, %r5;": 2,
    "mov.b64 %rd5, {%r1, 1};": 1 << 32,
    f"fma.rn.f64 %d1, {THIRD}, 0d4008000000000000, 0dBFF0000000000000; mov.b64 %rd5, %d1;": bits(-(2.0**-54)),
    f"min.f64 %d1, {NAN}, {HALF}; mov.b64 %rd5, %d1;": bits(0.5),
    f"cvt.rzi.s32.f64 %r5, {NAN}; cvt.s64.s32 %rd5, %r5;": 0,
    "cvt.rzi.s32.f64 %r5, 0dC1F0000000000000; cvt.s64.s32 %rd5, %r5;": -(2**31),
    f"setp.ltu.f64 %p1, {NAN}, {HALF}; selp.b64 %rd5, 1, 0, %p1;": 1,
    f"setp.ne.f64 %p1, {NAN}, {HALF}; selp.b64 %rd5, 1, 0, %p1;": 0,
    f"setp.neu.f64 %p1, {NAN}, {HALF}; selp.b64 %rd5, 1, 0, %p1;": 1,
    "rcp.approx.ftz.f64 %d1, 0d4008000000000000; mov.b64 %rd5, %d1;": bits(1 / 3) >> 32 << 32,
    "rsqrt.approx.ftz.f64 %d1, 0d4008000000000000; mov.b64 %rd5, %d1;": bits(1 / math.sqrt(3)) >> 32 << 32,
    "add.ftz.f32 %f1, 0f00000001, 0f00000000; mov.b32 %r5, %f1; cvt.u64.u32 %rd5, %r5;": 0,
    "add.rn.f32 %f1, 0f00000001, 0f00000000; mov.b32 %r5, %f1; cvt.u64.u32 %rd5, %r5;": 1,
    "st.shared.u32 [words], 0xfffffff0; ld.shared.s8 %r5, [words]; cvt.s64.s32 %rd5, %r5;": -16,
    "mov.u64 %rd5, words; cvta.shared.u64 %rd6, %rd5; cvta.to.shared.u64 %rd5, %rd6;": 0,
}


def test_instructions_of_one_thread():
    body = "\n".join(f"{code} st.global.u64 [%rd1+{8 * k}], %rd5;" for k, code in enumerate(PURE))
    out, _ = run(body, threads=1, size=len(PURE))
    assert dict(zip(PURE, out.tolist(), strict=True)) == PURE


def test_executed_instructions_are_counted():
    loop = "mov.u32 %r5, 0; LOOP: fma.rn.f64 %d1, %d1, %d1, %d1; add.s32 %r5, %r5, 1; setp.lt.s32 %p1, %r5, 10;"
    _, result = run(f"{loop} @%p1 bra LOOP; bar.sync 0; ld.shared.u64 %rd5, [words];", threads=2)
    assert result.counts["kernel", "double"] == 20
    assert result.counts["kernel", "branch"] == 22  # and ret
    assert result.counts["kernel", "barrier"] == result.counts["kernel", "load shared"] == 2


@pytest.mark.parametrize(
    "body",
    [
        "mad.lo.cc.u32 %r5, %r1, %r1, %r1;",
        "add.rz.f64 %d1, %d1, %d1;",
        "max.NaN.f64 %d1, %d1, %d1;",
        "bar.sync 1, 64;",
        "mov.u32 %r5, %smid;",
        "wgmma.fence.sync.aligned;",
        "setp.lt.and.s32 %p1, %r1, 3, %p2;",
        "cvt.rn.satfinite.f32.f64 %f1, %d1;",
    ],
)
def test_what_is_not_known_is_refused(body):
    with pytest.raises(UnsupportedError, match=body.split()[0].rstrip(";")):
        Program(KERNEL.format(body=body))
