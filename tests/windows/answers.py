"""What the host answers to a module: what that would have done on Windows, in the shape of its RETURN."""

from __future__ import annotations

import base64
import hashlib
import json
import ntpath
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from typing import Any

from tests.windows import programs
from tests.windows.documented import Module
from tests.windows.machine import Machine, key
from tests.windows.wire import Call

Answer = dict[str, Any]
Given = Mapping[str, Any]


class RefusedError(Exception):
    """The module fails: its message is what it says."""


def setup(machine: Machine, given: Given) -> Answer:
    return {"ansible_facts": machine.state["facts"], "changed": False}


def win_file(machine: Machine, given: Given) -> Answer:
    path, state = given["path"], given.get("state")
    if state == "absent":
        return {"changed": machine.remove(path)}
    if state == "directory":
        return {"changed": machine.make(path)}
    if machine.read(path) is None and not machine.is_folder(path):
        raise RefusedError(f"path {path} will not be created")
    return {"changed": False}


def win_stat(machine: Machine, given: Given) -> Answer:
    path = given["path"]
    content = machine.read(path)
    stat: Answer = {"exists": content is not None or machine.is_folder(path)}
    if stat["exists"]:
        stat |= {"path": path, "filename": ntpath.basename(path), "isdir": content is None}
        stat |= {"isreg": content is not None, "islnk": False}
    if content is not None:
        algorithm = given.get("checksum_algorithm") or "sha1"
        stat |= {"checksum": hashlib.new(algorithm, content).hexdigest(), "size": len(content)}
    return {"changed": False, "stat": stat}


def slurp(machine: Machine, given: Given) -> Answer:
    path = given.get("src") or given["path"]
    content = machine.read(path)
    if content is None:
        raise RefusedError(f"Path {path} is not found")
    return {"changed": False, "content": base64.b64encode(content).decode(), "encoding": "base64"}


def win_find(machine: Machine, given: Given) -> Answer:
    found = []
    patterns = given.get("patterns") or ["*"]
    for folder in given["paths"]:
        inside = key(folder).rstrip("\\") + "\\"
        for name in machine.under(folder):
            deep = "\\" in name[len(inside) :]
            if (given.get("recurse") or not deep) and any(
                fnmatch(ntpath.basename(name), pattern.lower()) for pattern in patterns
            ):
                found.append(
                    {"path": name, "filename": ntpath.basename(name), "exists": True, "isdir": False}
                )
    return {"changed": False, "files": found, "matched": len(found), "examined": len(found)}


def win_get_url(machine: Machine, given: Given) -> Answer:
    url, dest, algorithm = given["url"], given["dest"], given.get("checksum_algorithm") or "sha1"
    there = machine.read(dest)
    wanted = (given.get("checksum") or "").lower()
    if there is not None and wanted == hashlib.new(algorithm, there).hexdigest() and not given.get("force"):
        return {"changed": False, "dest": dest, "url": url, "status_code": 200, "msg": "OK"}
    content = machine.served(url)
    if content is None:
        raise RefusedError(
            f"Error downloading '{url}' to '{dest}': the remote server returned (404) Not Found."
        )
    got = hashlib.new(algorithm, content).hexdigest()
    if wanted and got != wanted:
        raise RefusedError(f"The checksum for {url} did not match '{wanted}', it was '{got}'")
    machine.put(dest, content)
    return {
        "changed": True, "dest": dest, "url": url, "status_code": 200, "msg": "OK",
        "checksum_src": got, "checksum_dest": got, "size": len(content), "elapsed": 0.5,
    }  # fmt: skip


def win_package(machine: Machine, given: Given) -> Answer:
    path = given["path"]
    made = given.get("creates_path")
    if made and (machine.read(made) is not None or machine.is_folder(made)):
        return {"changed": False, "reboot_required": False}
    content = machine.read(path)
    if content is None:
        raise RefusedError(f"the file at the path '{path}' cannot be reached")
    arguments = given.get("arguments") or ""
    if isinstance(arguments, list):
        # The module quotes what it gets as a list, where there is a blank in it.
        arguments = " ".join(f'"{part}"' if " " in part else part for part in arguments)
    code, out, err = programs.installer(machine, content, arguments)
    if code not in (given.get("expected_return_code") or [0, 3010]):
        raise RefusedError(
            f"unexpected rc from '{path} {arguments}': see rc, stdout, and stderr: {code} {out}{err}"
        )
    return {"changed": True, "reboot_required": code == 3010, "rc": code}


def win_command(machine: Machine, given: Given) -> Answer:
    argv = given.get("argv")
    line = given.get("cmd") or given.get("_raw_params") or ""
    words = argv or programs.split(line)
    known = {"cmd": line or " ".join(words), "delta": "0:00:01.000000", "start": "", "end": ""}
    for name, skip in (("creates", True), ("removes", False)):
        path = given.get(name)
        if path and (machine.read(path) is not None or machine.is_folder(path)) == skip:
            return {
                **known,
                "changed": False,
                "rc": 0,
                "stdout": f"skipped, since {path} {name}",
                "stderr": "",
            }
    done = programs.run(machine, line, words)
    if done is None:
        raise RefusedError(f"CreateProcess() failed: The system cannot find the file specified: {words[0]}")
    code, out, err = done
    answer = {**known, "changed": True, "rc": code, "stdout": out, "stderr": err}
    if code != 0:
        answer |= {"failed": True, "msg": "non-zero return code"}
    return {**answer, "stdout_lines": out.splitlines(), "stderr_lines": err.splitlines()}


def win_powershell(machine: Machine, given: Given) -> Answer:
    changed = programs.script(machine, given["script"], given.get("parameters") or {})
    if isinstance(changed, str):
        raise RefusedError(changed)
    return {"changed": changed, "result": {}, "output": [], "error": [], "warning": [], "host_out": ""}


def win_copy(machine: Machine, given: Given) -> Answer:
    mode = given.get("_copy_mode")
    if mode == "query":
        return {"changed": False, "files": _differing(machine, given), "directories": [], "symlinks": []}
    if mode == "explode":
        raise AssertionError("the rehearsal knows no folders that are copied: copy files, each by its name")
    source, dest = given["src"], given["dest"]
    content = machine.read(source)
    if content is None:
        raise RefusedError(f"Cannot copy src file: '{source}' as it does not exist")
    if dest.endswith(("\\", "/")) or machine.is_folder(dest):
        dest = dest.rstrip("\\/") + "\\" + (given.get("_original_basename") or ntpath.basename(source))
    if not machine.is_folder(ntpath.dirname(dest)):
        raise RefusedError(f"Destination directory '{ntpath.dirname(dest)}' does not exist")
    changed = machine.read(dest) != content
    machine.put(dest, content)
    return {
        "changed": changed, "src": source, "dest": dest, "operation": "file_copy", "size": len(content),
        "checksum": hashlib.sha1(content).hexdigest(), "original_basename": ntpath.basename(source),
    }  # fmt: skip


def _differing(machine: Machine, given: Given) -> list[Any]:
    found = []
    for each in given["files"]:
        there = machine.read(ntpath.join(given["dest"], each["dest"]))
        if there is None or (
            given.get("force", True) and hashlib.sha1(there).hexdigest() != each["checksum"]
        ):
            found.append(each)
    return found


KINDS = {
    "string": "REG_SZ",
    "expandstring": "REG_EXPAND_SZ",
    "dword": "REG_DWORD",
    "qword": "REG_QWORD",
    "multistring": "REG_MULTI_SZ",
    "binary": "REG_BINARY",
}


def win_regedit(machine: Machine, given: Given) -> Answer:
    name = key(f"{given['path']}|{given.get('name') or ''}")
    there = machine.state["registry"].get(name)
    if given.get("state") == "absent":
        machine.state["registry"].pop(name, None)
        if given.get("delete_key", True) and not given.get("name"):
            inside = key(given["path"])
            for each in [n for n in machine.state["registry"] if n.startswith((f"{inside}|", f"{inside}\\"))]:
                there = machine.state["registry"].pop(each)
        return {"changed": there is not None, "data_changed": False, "data_type_changed": False}
    kind = KINDS[given.get("type") or "string"]
    data = given.get("data")
    value = {"type": kind, "value": int(str(data)) if kind == "REG_DWORD" else data}
    machine.state["registry"][name] = value
    return {
        "changed": there != value,
        "data_changed": there is not None and there["value"] != value["value"],
        "data_type_changed": there is not None and there["type"] != kind,
    }


def win_reg_stat(machine: Machine, given: Given) -> Answer:
    there = machine.state["registry"].get(key(f"{given['path']}|{given.get('name') or ''}"))
    if there is None:
        return {"changed": False, "exists": False}
    return {"changed": False, "exists": True, **there, "raw_value": there["value"]}


def win_environment(machine: Machine, given: Given) -> Answer:
    wanted = given.get("variables") or {given["name"]: given.get("value")}
    values = {}
    for name, value in wanted.items():
        before = machine.state["environment"].get(name)
        after = value if given.get("state") != "absent" else None
        values[name] = {"before": before, "after": after, "changed": before != after}
        machine.state["environment"][name] = after
        if after is None:
            del machine.state["environment"][name]
    return {"changed": any(each["changed"] for each in values.values()), "env_values": values}


def win_feature_info(machine: Machine, given: Given) -> Answer:
    pattern = (given.get("name") or "*").lower()
    # Get-WindowsFeature names every feature that the system knows, installed or not.
    known = {"RDS-RD-Server", "RDS-Licensing", *machine.state["features"]}
    found = [
        {"name": name, "installed": name in machine.state["features"]}
        for name in sorted(known)
        if fnmatch(name.lower(), pattern)
    ]
    return {"changed": False, "exists": bool(found), "features": found}


def win_listen_ports_facts(machine: Machine, given: Given) -> Answer:
    listens = [{"address": "::", "port": port, "protocol": "tcp"} for port in machine.state["listens"]]
    return {"changed": False, "ansible_facts": {"tcp_listen": listens, "udp_listen": []}}


def win_acl(machine: Machine, given: Given) -> Answer:
    if not machine.is_folder(given["path"]):
        raise RefusedError(f"{given['path']} file or directory does not exist on the host")
    right = [given["user"], given["type"], given["rights"], given.get("inherit")]
    rights = machine.state["rights"].setdefault(key(given["path"]), [])
    changed = right not in rights
    if changed:
        rights.append(right)
    return {"changed": changed}


def win_acl_inheritance(machine: Machine, given: Given) -> Answer:
    inherits = machine.state["inherits"]
    wanted = given.get("state") != "absent"
    changed = inherits.get(key(given["path"]), True) != wanted
    inherits[key(given["path"])] = wanted
    return {"changed": changed}


def async_status(machine: Machine, given: Given) -> Answer:
    if given.get("mode") == "cleanup":
        return {"changed": False, "erased": f"C:\\Users\\Administrator\\.ansible_async\\{given['jid']}"}
    said: Answer = machine.state["jobs"][given["jid"]]
    return {
        **said,
        "finished": 1,
        "started": 1,
        "ansible_job_id": given["jid"],
        "stdout": said.get("stdout", ""),
    }


def win_updates(machine: Machine, given: Given) -> Answer:
    operation = given.get("_operation")
    if operation == "poll":
        rounds = machine.state["updates"]
        due = rounds.pop(0) if rounds else []
        updates = [{"id": kb, "title": kb, "kb": [kb], "categories": ["Security Updates"]} for kb in due]
        info = [{"id": kb, "result_code": 2, "hresult": 0} for kb in due]
        leaves = {"changed": bool(due), "reboot_required": bool(due), "failed": False, "exception": None}
        output = [
            {"task": "search_result", "result": {"updates": updates, "filtered": []}},
            {"task": "download_result", "result": {"info": [dict(each) for each in info]}},
            {"task": "install_result", "result": {"info": info}},
            {"task": "exit", "result": leaves},
        ]
        return {"changed": False, "output": output}
    if operation == "cancel":
        return {"changed": False}
    return {"changed": False, "cancel_options": {"cancel_id": "1"}, "poll_options": {"pipe_name": "1"}}


ANSWERS: dict[str, Callable[[Machine, Given], Answer]] = {
    "ansible.windows.async_status": async_status,
    "ansible.windows.setup": setup,
    "ansible.windows.slurp": slurp,
    "ansible.windows.win_acl": win_acl,
    "ansible.windows.win_acl_inheritance": win_acl_inheritance,
    "ansible.windows.win_command": win_command,
    "ansible.windows.win_copy": win_copy,
    "ansible.windows.win_environment": win_environment,
    "ansible.windows.win_feature_info": win_feature_info,
    "ansible.windows.win_file": win_file,
    "ansible.windows.win_find": win_find,
    "ansible.windows.win_get_url": win_get_url,
    "ansible.windows.win_listen_ports_facts": win_listen_ports_facts,
    "ansible.windows.win_package": win_package,
    "ansible.windows.win_powershell": win_powershell,
    "ansible.windows.win_reg_stat": win_reg_stat,
    "ansible.windows.win_regedit": win_regedit,
    "ansible.windows.win_stat": win_stat,
    "ansible.windows.win_updates": win_updates,
}
"""What each module does, as far as a playbook looks at it. No other one is answered."""


def answer(machine: Machine, call: Call, module: Module) -> Answer:
    """Answer a module as the host would.

    Parameters
    ----------
    machine:
        The host.
    call:
        What arrived.
    module:
        As it is documented: arguments that it does not take are refused, as Windows refuses them.

    Returns
    -------
    dict
        What the module would print.

    Raises
    ------
    AssertionError
        The host would answer what the module does not document.
    """
    wrong = module.complaints(call.arguments, internal=True)
    if wrong:
        return {"failed": True, "msg": "; ".join(wrong)}
    given = _with_defaults(module, call.arguments)
    try:
        said = ANSWERS[call.name](machine, given)
    except RefusedError as error:
        return {"failed": True, "msg": str(error)}
    misshapen = module.misshapen(said)
    assert not misshapen, "; ".join(misshapen)
    return said if call.seconds is None else _job(machine, said)


def _job(machine: Machine, said: Answer) -> Answer:
    """Answer that a module has been started; what it said is told when it is asked for."""
    number = f"j{len(machine.state['jobs']) + 1:012}.1"
    machine.state["jobs"][number] = said
    return {
        "changed": True, "started": 1, "finished": 0, "ansible_job_id": number,
        "results_file": f"C:\\Users\\Administrator\\.ansible_async\\{number}",
    }  # fmt: skip


def _with_defaults(module: Module, given: Mapping[str, Any]) -> Answer:
    """The arguments with their defaults and by their first names, as a module sees them."""
    found = {name: said.get("default") for name, said in module.options.items()}
    first = {alias: name for name, said in module.options.items() for alias in said.get("aliases") or ()}
    return {**found, **{first.get(name, name): value for name, value in given.items()}}


# ---- what Ansible asks by scripts and not by modules

BOOT_TIME = re.compile(r"LastBootUpTime")
SHUTDOWN = re.compile(r"shutdown\.exe /r")
EXPECTED = re.compile(r"'(success-[0-9a-f-]+)'")
REMOVE = re.compile(r"Remove-Item '([^']+)' -Force -Recurse;")


def script(machine: Machine, text: str) -> str | None:
    """Answer a script of Ansible's own, the end of a task or win_reboot's; None where it is another."""
    if removed := REMOVE.search(text):
        machine.remove(removed[1])
        return ""
    if SHUTDOWN.search(text):
        machine.reboot()
        # It does not answer the first time that it is asked whether it is back.
        machine.state["away"] = 1
        return json.dumps({"stdout": "", "stderr": "", "rc": 0})
    if BOOT_TIME.search(text):
        return str(133_000_000_000_000_000 + machine.state["boots"])
    expected = EXPECTED.search(text)
    return expected[1] if expected else None
