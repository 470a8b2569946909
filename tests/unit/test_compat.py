"""The judge: what goes together passes, each thing that does not is refused by its rule."""

from __future__ import annotations

import dataclasses
import tomllib
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kiln import compat
from kiln.compat import Stack, Table
from kiln.compat import table as tables
from kiln.manifest import Check, Demand, Driver, Module, Waiver

KERNEL = "6.1.0-1-cloud-amd64"
DAY = date(2026, 11, 23)
WAIVER = Waiver(check="driver-support", reason="the next release has 580", until=date(2027, 3, 31))
GPUS = ("g5.xlarge", "g4dn.xlarge")
TABLE = compat.load()
TORCH = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
"""What torch 2.10 for CUDA 12.8 brings (field notes: nvidia)."""


def driver(version: str = "535.309.01", **other: Any) -> Driver:
    said: dict[str, Any] = {
        "version": version,
        "flavour": "proprietary",
        "modules": [module(name, version) for name in ("nvidia", "nvidia-uvm", "nvidia-modeset")],
        "libraries": {name: [version] for name in compat.LIBRARIES},
        "firmware": {f"nvidia/{version}/gsp_tu10x.bin": True},
        "fabric_manager": None,
    }
    return Driver(**{**said, **other})


def module(name: str, version: str = "535.309.01", kernel: str = KERNEL, processor: str = "amd64") -> Module:
    return Module(name=name, version=version, kernel=kernel, processor=processor)


STACK = Stack(KERNEL, driver(), "2.10.0+cu128", "12.8", TORCH)
OPEN_580 = dataclasses.replace(STACK, driver=driver("580.82.07", flavour="open"))


def judge(
    stack: Stack = STACK,
    types: tuple[str, ...] = GPUS,
    waivers: tuple[Waiver, ...] = (WAIVER,),
    day: date = DAY,
    channel: str | None = None,
) -> dict[str, compat.Verdict]:
    found = compat.judge(stack, Demand(instance_types=list(types), waivers=list(waivers)), day, channel)
    return {verdict.name: verdict for verdict in found}


def refused(found: dict[str, compat.Verdict]) -> set[str]:
    return {name for name, verdict in found.items() if verdict.outcome == "refused"}


def test_what_debian_and_the_lock_give_together() -> None:
    found = judge()
    assert refused(found) == set()
    assert [name for name, verdict in found.items() if verdict.outcome != "passed"] == ["driver-support"]
    assert "without compiling its PTX, which needs 570.26" in found["driver-cuda"].sentence


def test_what_nvidias_repository_gives() -> None:
    found = judge(OPEN_580, waivers=(), channel="stable")
    assert {verdict.outcome for verdict in found.values()} == {"passed"}
    assert found["driver-cuda"].sentence == "CUDA 12.8 runs whole on 580.82.07"


REFUSED: dict[str, tuple[Stack, tuple[str, ...], set[str], str]] = {
    "torch for CUDA 13 with 535": (
        dataclasses.replace(STACK, cuda="13.0"),
        GPUS,
        {"driver-cuda"},
        "needs a driver from 580.65.06",
    ),
    "CUDA that nobody knows": (
        dataclasses.replace(STACK, cuda="14.0"),
        GPUS,
        {"driver-cuda"},
        "the table does not know",
    ),
    "Blackwell with 535": (
        STACK,
        ("g7e.2xlarge",),
        {"driver-gpu"},
        "needs a driver from 575.0, and this is 535.309.01",
    ),
    "Blackwell with proprietary modules": (
        dataclasses.replace(STACK, driver=driver("580.82.07")),
        ("g7e.2xlarge",),
        {"driver-gpu"},
        "needs open kernel modules",
    ),
    "Volta with open modules": (
        OPEN_580,
        ("p3.2xlarge",),
        {"driver-gpu"},
        "needs proprietary kernel modules",
    ),
    "Volta after its last branch": (
        dataclasses.replace(STACK, driver=driver("595.45.04")),
        ("p3.2xlarge",),
        {"driver-gpu"},
        "is driven by R580 and earlier",
    ),
    "NVSwitch without a fabric manager": (
        STACK,
        ("p4d.24xlarge",),
        {"driver-gpu"},
        "fabric manager of the driver, 535.309.01, and it is missing",
    ),
    "NVSwitch with another fabric manager": (
        dataclasses.replace(STACK, driver=driver(fabric_manager="535.261.03")),
        ("p4d.24xlarge",),
        {"driver-gpu"},
        "and it is 535.261.03",
    ),
    "a module for another kernel": (
        dataclasses.replace(
            STACK,
            driver=driver(modules=[module("nvidia"), module("nvidia-uvm", kernel="6.1.0-2-cloud-amd64")]),
        ),
        GPUS,
        {"driver-kernel"},
        f"nvidia-uvm is for the kernel 6.1.0-2-cloud-amd64, the image boots {KERNEL}",
    ),
    "no kernel, or several": (
        dataclasses.replace(STACK, kernel=None),
        GPUS,
        {"driver-kernel"},
        "has not exactly one kernel",
    ),
    "a library one version off": (
        dataclasses.replace(
            STACK,
            driver=driver(
                libraries={name: ["535.309.01"] for name in compat.LIBRARIES} | {"libcuda": ["535.309.02"]}
            ),
        ),
        GPUS,
        {"driver-versions"},
        "libcuda is 535.309.02, the kernel module nvidia is 535.309.01",
    ),
    "a library twice": (
        dataclasses.replace(
            STACK, driver=driver(libraries={name: ["535.261.03", "535.309.01"] for name in compat.LIBRARIES})
        ),
        GPUS,
        {"driver-versions"},
        "libcuda is 535.261.03, 535.309.01",
    ),
    "no library": (
        dataclasses.replace(STACK, driver=driver(libraries={})),
        GPUS,
        {"driver-versions"},
        "libcuda is missing",
    ),
    "a module one version off": (
        dataclasses.replace(
            STACK, driver=driver(modules=[module("nvidia"), module("nvidia-uvm", "535.261.03")])
        ),
        GPUS,
        {"driver-versions"},
        "nvidia-uvm is 535.261.03, nvidia is 535.309.01",
    ),
    "no module for CUDA": (
        dataclasses.replace(STACK, driver=driver(modules=[module("nvidia")])),
        GPUS,
        {"driver-versions"},
        "nvidia-uvm is missing",
    ),
    "firmware missing": (
        dataclasses.replace(STACK, driver=driver(firmware={"nvidia/gsp.bin": False})),
        GPUS,
        {"driver-firmware"},
        "nvidia/gsp.bin",
    ),
    "an unknown instance type": (
        STACK,
        ("g5.xlarge", "g99.xlarge"),
        {"instance-types"},
        "g99.xlarge is an unknown",
    ),
    "an unknown size": (STACK, ("g5.3xlarge",), {"instance-types"}, "g5.3xlarge is an unknown"),
    "an unknown family of a known letter": (
        STACK,
        ("c9x.large",),
        {"instance-types"},
        "c9x.large is an unknown",
    ),
    "AMD's GPU": (STACK, ("g4ad.xlarge",), {"instance-types"}, "its GPU is AMD's"),
    "a share of a GPU": (STACK, ("g6f.large",), {"instance-types"}, "NVIDIA's GRID driver"),
    "an ARM processor": (
        STACK,
        ("c7g.large",),
        {"instance-types"},
        "computes with arm64, the image was made for amd64",
    ),
    "an ARM processor with a GPU": (STACK, ("g5g.xlarge",), {"instance-types"}, "computes with arm64"),
    "no instance type": (STACK, (), {"instance-types"}, "names no instance_types"),
    "torch without CUDA": (
        dataclasses.replace(STACK, torch="2.10.0+cpu", cuda=None, architectures=()),
        GPUS,
        {"wheel-gpu"},
        "is built without CUDA",
    ),
    "torch that lists no GPU": (
        dataclasses.replace(STACK, architectures=()),
        GPUS,
        {"wheel-gpu"},
        "nothing says for which GPUs",
    ),
    "torch without code for a GPU": (
        dataclasses.replace(STACK, architectures=("sm_90", "compute_90")),
        ("g6.xlarge",),
        {"wheel-gpu"},
        "no code for g6.xlarge (1 × L4, compute 8.9)",
    ),
    "PTX that the driver does not compile": (
        dataclasses.replace(STACK, architectures=("compute_75",)),
        ("g6.xlarge",),
        {"wheel-gpu"},
        "no code for",
    ),
    "code for one GPU alone": (
        dataclasses.replace(STACK, architectures=("sm_75a",)),
        ("g5.xlarge",),
        {"wheel-gpu"},
        "no code for",
    ),
    "a branch that nobody knows": (
        dataclasses.replace(STACK, driver=driver("536.25.01")),
        GPUS,
        {"driver-support"},
        "nothing says until when",
    ),
}


@pytest.mark.parametrize(("stack", "types", "rules", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(stack: Stack, types: tuple[str, ...], rules: set[str], words: str) -> None:
    found = judge(stack, types)
    assert refused(found) == rules
    said = " ".join(found[name].sentence for name in rules)
    assert words in said
    assert ": " in said, "it does not say what to do"


def test_an_image_without_a_driver_suits_what_has_no_gpu() -> None:
    bare = Stack(KERNEL, None, None, None, ())
    assert refused(judge(bare, ())) == set()
    assert refused(judge(bare, ("c6i.large", "t3.micro", "m7i-flex.xlarge"))) == set()
    for asked in (("g5.xlarge",), ("c6i.large", "g5.xlarge"), ("who.knows",)):
        found = judge(bare, asked)
        assert refused(found) >= {name for name in found if name.startswith("driver-")}
    assert "g5.xlarge (1 × A10G" in judge(bare, ("c6i.large", "g5.xlarge"))["driver-cuda"].sentence


@pytest.mark.parametrize(
    ("architectures", "with_535", "with_580"),
    [
        (("sm_80",), "sm_80", "sm_80"),
        (("sm_86", "sm_80", "compute_80"), "sm_86", "sm_86"),
        (("compute_80",), None, "compute_80"),
        (("compute_86a",), None, None),
        (("compute_89a", "sm_89f"), "sm_89f", "sm_89f"),
        (("sm_90", "sm_70", "compute_90"), None, None),
        (("nonsense", "sm_"), None, None),
    ],
)
def test_code_for_an_l4(architectures: tuple[str, ...], with_535: str | None, with_580: str | None) -> None:
    for base, expected in ((STACK, with_535), (OPEN_580, with_580)):
        verdict = judge(dataclasses.replace(base, architectures=architectures), ("g6.xlarge",))["wheel-gpu"]
        assert (verdict.outcome == "passed") is (expected is not None)
        if expected:
            assert verdict.sentence == f"L4 runs {expected}"


@pytest.mark.parametrize(
    ("waivers", "day", "channel", "outcome", "words"),
    [
        ((WAIVER,), DAY, None, "waived", "waived until 2027-03-31: the next release has 580"),
        ((WAIVER,), DAY, "stable", "waived", "ended on 2026-06-30"),
        ((WAIVER,), WAIVER.until, "stable", "waived", ""),
        ((WAIVER,), WAIVER.until + timedelta(1), "stable", "refused", "(a waiver ended on 2027-03-31)"),
        ((WAIVER,), WAIVER.until + timedelta(1), None, "not-for-stable", "(a waiver ended on 2027-03-31)"),
        ((), DAY, "stable", "refused", "write a [[waiver]]"),
        ((), DAY, None, "not-for-stable", "the channel stable refuses it"),
        ((), DAY, "candidate", "not-for-stable", "take a supported branch"),
        ((), date(2026, 6, 30), "stable", "passed", "NVIDIA supports R535 until 2026-06-30"),
        ((WAIVER.model_copy(update={"check": "driver-gpu"}),), DAY, "stable", "refused", ""),
    ],
)
def test_a_branch_past_its_support(
    waivers: tuple[Waiver, ...], day: date, channel: str | None, outcome: str, words: str
) -> None:
    verdict = judge(waivers=waivers, day=day, channel=channel)["driver-support"]
    assert (verdict.outcome, verdict.waiver) == (outcome, WAIVER if outcome == "waived" else None)
    assert words in verdict.sentence


def test_the_longer_of_two_waivers_counts() -> None:
    longer = WAIVER.model_copy(update={"until": date(2027, 4, 30)})
    assert judge(waivers=(WAIVER, longer))["driver-support"].waiver == longer


def test_a_branch_whose_last_day_nobody_tells() -> None:
    found = judge(dataclasses.replace(STACK, driver=driver("550.163.01")), channel="stable", waivers=())
    assert refused(found) == {"driver-support"}
    assert "ended before 2025-08-04" in found["driver-support"].sentence


@pytest.mark.parametrize(
    ("outcome", "waiver", "kept"),
    [("passed", None, False), ("failed", None, True), ("not-for-stable", None, True),
     ("waived", WAIVER, False), ("waived", WAIVER.model_copy(update={"until": DAY - timedelta(1)}), True),
     ("waived", None, True)],
)  # fmt: skip
def test_what_keeps_from_stable(outcome: Any, waiver: Waiver | None, kept: bool) -> None:
    check = Check(id="static::x", stage="static", outcome=outcome, waiver=waiver, seconds=0)
    assert check.keeps_from_stable(DAY) is kept


versions = st.builds("{}.{}.{}".format, st.integers(380, 620), st.integers(0, 300), st.integers(0, 99))
types = st.sampled_from(
    [f"{name}.{size}" for name, family in TABLE.family.items() for size in family.sizes]
    + ["c6i.large", "t3.micro", "who.knows", "g5.zero"]
)
stacks = st.builds(
    Stack,
    kernel=st.sampled_from([KERNEL, None, "other"]),
    driver=st.none() | st.builds(driver, versions, flavour=st.sampled_from(["open", "proprietary"])),
    torch=st.sampled_from([None, "2.10.0"]),
    cuda=st.sampled_from([None, "11.8", "12.8", "13.0", "99.9"]),
    architectures=st.lists(st.sampled_from([*TORCH, "compute_90", "sm_90a", "?"])).map(tuple),
)


@given(
    stack=stacks,
    asked=st.lists(types, max_size=4).map(tuple),
    waivers=st.sampled_from([(), (WAIVER,)]),
    day=st.dates(date(2026, 1, 1), date(2029, 1, 1)),
)
def test_every_stack_gets_every_verdict_and_stable_is_never_kinder(
    stack: Stack, asked: tuple[str, ...], waivers: tuple[Waiver, ...], day: date
) -> None:
    bake, stable = judge(stack, asked, waivers, day), judge(stack, asked, waivers, day, "stable")
    assert list(bake) == list(stable) == list(judge())
    assert refused(bake) <= refused(stable)
    for verdict in (*bake.values(), *stable.values()):
        assert verdict.sentence
        assert "\n" not in verdict.sentence
    if any(TABLE.instance(name) is None for name in asked):
        assert "instance-types" in refused(bake)


@given(stack=stacks, asked=st.lists(types, min_size=1, max_size=3), more=types)
def test_one_more_instance_type_never_mends_anything(stack: Stack, asked: list[str], more: str) -> None:
    assert refused(judge(stack, tuple(asked))) <= refused(judge(stack, (*asked, more)))


def test_every_entry_names_a_page() -> None:
    assert all(
        address.startswith("https://docs.") or "nvidia.com/" in address for address in TABLE.source.values()
    )
    used = {
        entry.source
        for part in (
            TABLE.cuda,
            TABLE.toolkit,
            TABLE.compute,
            TABLE.gpu,
            TABLE.branch,
            TABLE.family,
            TABLE.no_gpu,
        )
        for entry in part.values()
    }
    assert used <= set(TABLE.source)


def test_a_newer_toolkit_never_takes_an_older_driver() -> None:
    numbers = [
        tuple(int(part) for part in each.split("."))
        for _, each in sorted(
            (tuple(int(part) for part in name.split(".")), one.driver) for name, one in TABLE.toolkit.items()
        )
    ]
    assert numbers == sorted(numbers)


MANGLED = {
    "a slip in a GPU's name": ('gpu = "A10G"', 'gpu = "A01G"', "lacks A01G"),
    "a slip in a source": ('source = "aws-types"', 'source = "aws-type"', "lacks aws-type"),
    "a slip in a compute capability": ('L4 = { compute = "8.9"', 'L4 = { compute = "8.8"', "lacks 8.8"),
    "a toolkit that is not there": ('toolkit = "10.0"', 'toolkit = "10.5"', "lacks 10.5"),
    "an unknown key": ("nvswitch = [", "nvlink = [", "nvlink"),
    "a switch of a size that is not there": (
        'nvswitch = ["24xlarge"]',
        'nvswitch = ["23xlarge"]',
        "23xlarge",
    ),
    "a branch without a day": ("580 = { until = 2028-06-30, ", "580 = { ", "either until or ended_before"),
    "a family twice": ('"a1", ', '"a1", "t2", ', "twice: t2"),
    "a family without a GPU or a reason": ('gpu = "L40S"\n', "", "either a gpu or a reason"),
}


@pytest.mark.parametrize(("old", "new", "words"), MANGLED.values(), ids=MANGLED)
def test_a_table_that_contradicts_itself_is_no_table(old: str, new: str, words: str) -> None:
    text = tables.FILE.read_text()
    assert old in text
    with pytest.raises(ValidationError, match=words):
        Table.model_validate(tomllib.loads(text.replace(old, new)))
