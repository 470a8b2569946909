"""The rules, each a verdict over facts, and the judge that asks them all. Nothing here reads a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from kiln.compat import table
from kiln.compat.stack import LIBRARIES, Outcome, Stack, Verdict
from kiln.compat.table import Instance, Table
from kiln.manifest import Demand, Driver, Waiver

STABLE = "stable"
"""The channel that takes only what NVIDIA supports, or what a waiver accepts (house plan, The contract)."""

DRIVER_SUPPORT = "driver-support"

WAIVABLE = (DRIVER_SUPPORT,)
"""Rules that a waiver can accept. What the others refuse does not work, and no date mends that."""

_MODULES = ("nvidia", "nvidia-uvm")
"""The modules without which CUDA does not start."""

_PROCESSOR = "amd64"
"""What every base image of Kiln is made for; an image with a driver says it by its modules."""

_CODE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


Said = tuple[Outcome, str] | tuple[Outcome, str, Waiver]
"""A verdict without the rule's name."""


@dataclass(frozen=True)
class _Case:
    """What is judged, and by what."""

    stack: Stack
    demand: Demand
    day: date
    channel: str | None
    table: Table

    @property
    def driver(self) -> Driver:
        """The driver; rules about it are asked only where there is one."""
        assert self.stack.driver is not None
        return self.stack.driver

    @cached_property
    def instances(self) -> dict[str, Instance | None]:
        return {name: self.table.instance(name) for name in self.demand.instance_types}

    @cached_property
    def with_gpu(self) -> list[Instance]:
        """Instances whose GPU CUDA drives; of the others the rule ``instance-types`` speaks."""
        return [one for one in self.instances.values() if one is not None and one.gpu is not None]


def _passed(sentence: str) -> Said:
    return "passed", sentence


def _refused(what: str, remedy: str) -> Said:
    return "refused", f"{what}: {remedy}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _instance_types(case: _Case) -> Said:
    if not case.demand.instance_types:
        if case.stack.driver is None:
            return _passed("no instance type is asked for")
        return _refused(
            "kiln.toml names no instance_types for this image",
            "nothing says which GPU the driver is for; name them",
        )
    modules = case.stack.driver.modules if case.stack.driver else []
    made_for = {module.processor for module in modules} or {_PROCESSOR}
    for name, one in case.instances.items():
        if one is None:
            return _refused(
                f"{name} is an unknown instance type, and nothing is assumed of it",
                "add it to kiln/compat/table.toml with its source, or name another",
            )
        if one.unusable:
            return _refused(f"{name} cannot be used: {one.unusable}", "name another instance type")
        if made_for != {one.processor}:
            return _refused(
                f"{name} computes with {one.processor}, the image was made for {_listed(sorted(made_for))}",
                "name another instance type, or compile the modules for this one",
            )
    return _passed(_listed(str(one) for one in case.instances.values()))


def _driver_versions(case: _Case) -> Said:
    driver = case.driver
    remedy = "install modules and libraries of one version, then bake again"
    for name in _MODULES:
        if name not in {module.name for module in driver.modules}:
            return _refused(f"the kernel module {name} is missing", remedy)
    for module in driver.modules:
        if module.version != driver.version:
            return _refused(
                f"the module {module.name} is {module.version}, nvidia is {driver.version}", remedy
            )
    for name in LIBRARIES:
        found = driver.libraries.get(name, [])
        if found != [driver.version]:
            said = _listed(found) or "missing"
            return _refused(f"{name} is {said}, the kernel module nvidia is {driver.version}", remedy)
    return _passed(f"{len(driver.modules)} modules and {len(LIBRARIES)} libraries of {driver.version}")


def _driver_kernel(case: _Case) -> Said:
    driver = case.driver
    kernel = case.stack.kernel
    if kernel is None:
        return _refused("the image has not exactly one kernel", "remove all but one in a role")
    for module in driver.modules:
        if module.kernel != kernel:
            return _refused(
                f"the module {module.name} is for the kernel {module.kernel}, the image boots {kernel}",
                "compile it for the image's kernel, hold both packages, then bake again",
            )
    return _passed(f"compiled for {kernel}")


def _driver_firmware(case: _Case) -> Said:
    driver = case.driver
    if missing := [name for name, there in driver.firmware.items() if not there]:
        return _refused(
            f"firmware that the driver loads is missing: {_listed(missing)}",
            "install firmware-nvidia-gsp of the driver's version",
        )
    return _passed(_listed(driver.firmware) or "the module names no firmware")


def _driver_cuda(case: _Case) -> Said:
    driver = case.driver
    cuda = case.stack.cuda
    if cuda is None:
        return _passed("nothing in the image is built for CUDA")
    major = case.table.cuda.get(cuda.partition(".")[0])
    if major is None:
        return _refused(
            f"torch is built for CUDA {cuda}, which the table does not know",
            "add it to kiln/compat/table.toml with its source",
        )
    if _numbers(driver.version) < _numbers(major.driver):
        return _refused(
            f"torch is built for CUDA {cuda}, which needs a driver from {major.driver}, and this is"
            f" {driver.version}",
            "take a newer driver, or a torch for an older CUDA",
        )
    if _compiles_ptx(case, driver):
        return _passed(f"CUDA {cuda} runs whole on {driver.version}")
    own = case.table.toolkit.get(cuda)
    return _passed(
        f"CUDA {cuda} runs on {driver.version} (from {major.driver}), without compiling its PTX"
        f"{f', which needs {own.driver}' if own else ''}: kernels that come as PTX alone do not run"
    )


def _compiles_ptx(case: _Case, driver: Driver | None) -> bool:
    """Tell whether the driver compiles PTX of torch's toolkit; of a toolkit that is unknown it does not."""
    toolkit = case.table.toolkit.get(case.stack.cuda or "")
    return toolkit is not None and driver is not None and _numbers(driver.version) >= _numbers(toolkit.driver)


def _driver_gpu(case: _Case) -> Said:
    driver = case.driver
    for one in case.with_gpu:
        compute = case.table.compute[one.compute or ""]
        first = case.table.toolkit[compute.toolkit].driver
        least = max((first, one.driver or first), key=_numbers)
        branch = _numbers(driver.version)[0]
        if _numbers(driver.version) < _numbers(least):
            return _refused(
                f"{one} needs a driver from {least}, and this is {driver.version}",
                "take a newer driver, or another instance type",
            )
        if compute.last_branch is not None and branch > compute.last_branch:
            return _refused(
                f"{one} is driven by R{compute.last_branch} and earlier, and this is R{branch}",
                "take an older driver, or another instance type",
            )
        if compute.modules not in (None, driver.flavour):
            return _refused(
                f"{one} needs {compute.modules} kernel modules, and these are {driver.flavour}",
                f"take the {compute.modules} modules, or another instance type",
            )
        if one.nvswitch and driver.fabric_manager != driver.version:
            said = driver.fabric_manager or "missing"
            return _refused(
                f"{one} needs NVIDIA's fabric manager of the driver, {driver.version}, and it is {said}",
                "install it, or name an instance type without NVSwitch",
            )
    return _passed(f"{driver.version} ({driver.flavour}) drives {_gpus(case)}")


def _gpus(case: _Case) -> str:
    return _listed(dict.fromkeys(one.gpu or "" for one in case.with_gpu)) or "no GPU: none is asked for"


def _wheel_gpu(case: _Case) -> Said:
    stack = case.stack
    if stack.torch is None or not case.with_gpu:
        return _passed("the image has no torch" if stack.torch is None else "no GPU is asked for")
    if stack.cuda is None:
        return _refused(
            f"torch {stack.torch} is built without CUDA, and {case.with_gpu[0]} is asked for",
            "lock a torch that is built for CUDA",
        )
    if not stack.architectures:
        return _refused(
            f"nothing says for which GPUs torch {stack.torch} is built",
            "its libtorch_python.so must list them; bake again",
        )
    used = {}
    for one in case.with_gpu:
        code = _code_for(one.compute or "", stack.architectures, _compiles_ptx(case, stack.driver))
        if code is None:
            return _refused(
                f"torch {stack.torch} has no code for {one}: it brings {' '.join(stack.architectures)}",
                "lock a torch that is built for it, or name another instance type",
            )
        used[one.gpu or ""] = code
    return _passed(_listed(f"{gpu} runs {code}" for gpu, code in used.items()))


def _code_for(compute: str, architectures: Iterable[str], compiles: bool) -> str | None:
    """Return the code that runs on a compute capability: its own, of an earlier minor, or PTX."""
    wanted = _numbers(compute)
    found: list[tuple[bool, tuple[int, ...], str]] = []
    for name in architectures:
        if match := _CODE.fullmatch(name):
            has = (int(match[2]), int(match[3]))
            binary = match[1] == "sm"
            # With a letter it runs on exactly this capability (CUDA C++ Programming Guide, feature sets).
            fits = has == wanted if match[4] else has <= wanted
            if fits and (has[0] == wanted[0] if binary else compiles):
                found.append((binary, has, name))
    return max(found)[2] if found else None


def _driver_support(case: _Case) -> Said:
    driver = case.driver
    number = driver.version.partition(".")[0]
    branch = case.table.branch.get(number)
    if branch is None:
        return _refused(
            f"nothing says until when NVIDIA supports R{number}",
            "add the branch to kiln/compat/table.toml with its source",
        )
    if branch.until is not None and case.day <= branch.until:
        return _passed(f"NVIDIA supports R{number} until {branch.until}")
    ended = f"on {branch.until}" if branch.until else f"before {branch.ended_before}"
    what = f"NVIDIA's support of R{number} ended {ended}"
    waivers = [one for one in case.demand.waivers if one.check == DRIVER_SUPPORT]
    valid = [one for one in waivers if case.day <= one.until]
    if valid:
        waiver = max(valid, key=lambda one: one.until)
        return "waived", f"{what}; waived until {waiver.until}: {waiver.reason}", waiver
    past = f" (a waiver ended on {max(one.until for one in waivers)})" if waivers else ""
    remedy = "take a supported branch, or write a [[waiver]] with a reason and a day in kiln.toml"
    if case.channel == STABLE:
        return _refused(f"{what}{past}", remedy)
    return "not-for-stable", f"{what}{past}; the channel stable refuses it: {remedy}"


_OF_THE_IMAGE: dict[str, Callable[[_Case], Said]] = {
    "instance-types": _instance_types,
    "wheel-gpu": _wheel_gpu,
}
_OF_THE_DRIVER: dict[str, Callable[[_Case], Said]] = {
    "driver-versions": _driver_versions,
    "driver-kernel": _driver_kernel,
    "driver-firmware": _driver_firmware,
    "driver-cuda": _driver_cuda,
    "driver-gpu": _driver_gpu,
    DRIVER_SUPPORT: _driver_support,
}


def judge(
    stack: Stack,
    demand: Demand,
    day: date,
    channel: str | None = None,
    known: Table | None = None,
) -> list[Verdict]:
    """Judge whether an image's driver, CUDA, torch and GPUs go together.

    Parameters
    ----------
    stack:
        Facts of the image.
    demand:
        The instance types that it must suit, and the waivers of kiln.toml.
    day:
        The day of the judgement.
    channel:
        The channel that is to take it; None for a bake, which refuses only what does not work.
    known:
        The table, by default this checkout's.

    Returns
    -------
    list of Verdict
        One by each rule, always the same rules in the same order. What cannot be determined is refused.
    """
    case = _Case(stack, demand, day, channel, known or table.load())
    rules = _OF_THE_IMAGE | ({} if stack.driver is None else _OF_THE_DRIVER)
    said = {name: rule(case) for name, rule in rules.items()}
    if stack.driver is None:
        said |= dict.fromkeys(_OF_THE_DRIVER, _without_driver(case))
    return [Verdict(name, *parts) for name, parts in said.items()]


def _without_driver(case: _Case) -> Said:
    wanting = [str(one or name) for name, one in case.instances.items() if one is None or one.gpu]
    if not wanting:
        return _passed("the image has no NVIDIA driver, and no GPU is asked for")
    return _refused(
        f"the image has no NVIDIA driver, and {wanting[0]} is asked for",
        "put the role nvidia into the playbook, or name instance types without a GPU",
    )
