"""From a job to the sbatch script that runs it: pure text, to be read, kept, and run by hand.

Each word of a command stays exactly one argument of the script's command, whatever it contains.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import assert_never

from cluster.attempts import ASKED_VARIABLE, KILLED
from cluster.errors import TargetError
from cluster.job import START_VARIABLE, Job, Word
from cluster.site import Site
from cluster.torchrun import MEETING_VARIABLE

FIRST_PORT, PORTS, PORTS_OF_A_JOB = 20000, 12000, 7
"""Below the ports that Linux hands out by itself (32768 and up), above those of most services. A job has several,
of which it takes the next one when it comes again."""
REQUEUE_SECONDS = 60
"""SLURM ends a script that it has requeued; one that ended before would count as done."""
ASK_AGAIN_SECONDS = 5
SETUP_FAILED = "error: the setup of the site failed: "
"""How the log says that a job has ended before its command."""
ALONE = "before all nodes had met"
EACH_NODE = f"""\
# On each node. One that ends before all nodes have met is named, and ends the others at once, which would wait for it.
each_node=$(cat <<'END'
asked=no
trap asked=yes USR2 TERM
"$@"
code=$?
if [ "$code" != 0 ] && [ "$asked" = no ] && [ ! -e "${MEETING_VARIABLE}/met" ]; then
  if (set -C; echo "$code" >"${MEETING_VARIABLE}/gone") 2>/dev/null; then
    echo "$SLURMD_NODENAME ended with status $code {ALONE}" >&2
  fi
  exit "$code"
fi
echo "$code" >"${MEETING_VARIABLE}/ended-$SLURM_PROCID"
END
)"""
"""What srun runs where each node has a launcher. It ends well where the others are to go on and save."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a submission lives.

    Attributes:
        folder: of the submission: scripts, logs, records.
        code: the snapshot that runs.
        working_folder: where relative paths of the command begin.
    """

    folder: PurePath
    code: PurePath
    working_folder: PurePath

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def logs(self) -> PurePath:
        return self.folder / "logs"

    def script(self, job: Job) -> PurePath:
        return self.folder / f"{job.name}.sbatch"


def render(job: Job, site: Site, place: Place) -> str:
    """The script of a job. Its argument is the number that SLURM's numbers of elements are counted from.

    Raises:
        ValueError: a path or name that cannot stand in a script.
    """
    last = min(len(job.elements), site.max_array_size) - 1
    array = f"--array=0-{last} " if job.array else ""
    return "\n".join(
        [
            "#!/bin/bash",
            f"# The job {job.name} of {place.name}, made by jobs.submit.",
            f"# By hand: sbatch {array}{quoted(str(place.script(job)))}",
            *(f"#SBATCH {option}" for option in _options(job, site, place)),
            "set -uo pipefail",
            "",
            *_surroundings(job, site, place),
            *_listening(job, site),
            *_stagger(job, site),
            *_beginning(job, site, place),
            *_meeting(job),
            *_ray(job, site, place),
            *_command(job),
            *_waiting(job, site, place),
            *_ending(job, site),
        ]
    )


def _options(job: Job, site: Site, place: Place) -> Iterator[str]:
    resources = job.resources
    logs = str(place.logs).replace("%", "%%")
    for name, value in (
        ("job-name", f"{place.name}.{job.name}"),
        ("comment", str(place.folder)),
        ("chdir", str(place.working_folder)),
        ("output", f"{logs}/{job.name}-%A_%a.log" if job.array else f"{logs}/{job.name}-%j.log"),
        ("open-mode", "append"),
        ("partition", site.partition),
        ("account", site.account),
        ("qos", site.qos),
        ("constraint", site.constraint),
        ("nodes", resources.nodes),
        ("ntasks-per-node", 1),
        ("gpus-per-node", resources.gpus_per_node or None),
        ("cpus-per-task", cpus_of_node(job, site)),
        ("mem", resources.memory),
        ("mem-per-gpu", site.mem_per_gpu if resources.gpus_per_node and not resources.memory else None),
        ("time", resources.minutes),
        ("signal", f"B:USR2@{site.notice_seconds}"),
    ):
        if value is not None:
            yield f"--{name}={sbatch_value(str(value))}"
    yield "--requeue"
    if site.exclusive:
        yield "--exclusive"
    yield from site.sbatch


def cpus_of_node(job: Job, site: Site) -> int | None:
    """The CPUs that a job asks for on each node; None leaves them to the cluster, which gives one where it counts."""
    resources = job.resources
    if resources.cpus_per_node is None and resources.gpus_per_node and site.cpus_per_gpu:
        return resources.gpus_per_node * site.cpus_per_gpu
    return resources.cpus_per_node


def _surroundings(job: Job, site: Site, place: Place) -> Iterator[str]:
    yield "# The code as it was submitted; the code in the working folder may have changed."
    yield f"export PYTHONSAFEPATH=1 PYTHONPATH={quoted(str(place.code))}${{PYTHONPATH:+:$PYTHONPATH}}"
    for name, value in {**site.environment, **dict(job.environment)}.items():
        yield f"export {name}={quoted(value)}"
    yield f'setup_failed() {{ echo "{SETUP_FAILED}$1" >&2; exit 1; }}'
    if site.modules or site.setup:
        # They may use variables that are not set, and what they do must not depend on `-u`.
        yield "set +u"
        for module in site.modules:
            load = f"module load {quoted(module)}"
            yield f"{load} || setup_failed {quoted(load)}"
        yield "trap 'setup_failed \"$BASH_COMMAND\"' ERR"
        yield from site.setup
        yield "trap - ERR"
        yield "set -u"
    if site.scratch:
        yield f'export TMPDIR={site.scratch}; mkdir -p "$TMPDIR"'
    yield "# srun does not take it over from sbatch, and would bind all ranks to one CPU."
    yield '[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK'
    container = f"{site.container} " if site.container else ""
    yield f"python=({container}{quoted(site.python or sys.executable)})"
    yield ""


def _listening(job: Job, site: Site) -> Iterator[str]:
    yield "# Before the time limit or a preemption, the command saves and exits."
    # At SIGTERM srun kills the command.
    stop_signal = "USR2" if site.srun else job.stop_signal
    yield "asked=no asked_at='' child="
    yield "stop() {"
    yield "  asked=yes asked_at=${asked_at:-$(date +%s)}"
    yield f'  [ -z "$child" ] || kill -{stop_signal} "$child"'
    yield "}"
    yield "trap stop USR2 TERM"
    yield ""


def _stagger(job: Job, site: Site) -> Iterator[str]:
    if job.array is None or not site.stagger_seconds:
        return
    first = min(job.array.at_once or job.array.elements, job.array.elements)
    yield "# Of the elements that may start at once, each begins after the one before it."
    yield f'if [ "$SLURM_ARRAY_TASK_ID" -lt {first} ]; then'
    yield f"  sleep $((SLURM_ARRAY_TASK_ID * {site.stagger_seconds})) & child=$!"
    yield '  wait "$child"; child='
    yield "fi"
    yield ""


def _beginning(job: Job, site: Site, place: Place) -> Iterator[str]:
    # What a container holds need not see the submission, so the node's own Python writes things down.
    inside = site.container or site.srun
    python = quoted(sys.executable if inside else site.python or sys.executable)
    record = f"record=({python} -m cluster.attempts {quoted(str(place.folder))} {quoted(job.name)}"
    if job.array:
        yield "# An array larger than MaxArraySize is split. The argument is the first element of this part."
        yield "element=$((SLURM_ARRAY_TASK_ID + ${1:-0}))"
        record += ' --element "$element"'
    yield "# Records the start. Exits if the element is done, or was requeued too often without progress."
    yield f"{record})"
    yield 'opening=$("${record[@]}" start) || setup_failed "${record[0]} does not run"'
    yield "case $opening in go) ;; done) exit 0 ;; *) exit 1 ;; esac"
    yield ""


def _meeting(job: Job) -> Iterator[str]:
    yield f'export {START_VARIABLE}="$SLURM_JOB_ID.${{SLURM_RESTART_COUNT:-0}}"'
    if Word.MEETING_POINT in job.command or job.own_ray:
        yield "# This script runs on the first node, and torchrun knows a node by the name that it has for itself."
        # A job that comes again takes another port, lest a stranger has the first, and not that of the next job.
        port = f"{FIRST_PORT} + ({PORTS_OF_A_JOB} * SLURM_JOB_ID + ${{SLURM_RESTART_COUNT:-0}}) % {PORTS}"
        yield f'meeting_point="$(hostname):$(({port}))"'
    yield ""


def _ray(job: Job, site: Site, place: Place) -> Iterator[str]:
    if not job.own_ray:
        return
    token = f"{quoted(str(place.folder))}/ray-token.${START_VARIABLE}"
    log = quoted(str(place.logs).replace("%", "%%") + f"/ray-{job.name}-%j-%n.log")
    yield "# A Ray cluster for this allocation. The head runs on the first node. The token file is deleted at the end."
    yield f'export RAY_ADDRESS="$meeting_point" RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token}'
    yield '(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d " \\n" >"$RAY_AUTH_TOKEN_PATH")'
    yield f"srun --kill-on-bad-exit=0 {_step_options(job, site)}--output={log} \\"
    yield '  "${python[@]}" -m cluster.ray_node begin "$RAY_ADDRESS" &'
    yield "ray=$!"
    # At SIGTERM srun would kill the step, which could not clean up.
    yield 'end_ray() { kill -USR1 "$ray" 2>/dev/null; wait "$ray"; rm -f "$RAY_AUTH_TOKEN_PATH"; }'
    yield "trap end_ray EXIT"
    # A stop that is asked for meanwhile is heard as soon as the command runs.
    yield f'"${{python[@]}}" -m cluster.ray_node wait "$RAY_ADDRESS" {job.resources.nodes} "$ray"; up=$?'
    yield ""


def _step_options(job: Job, site: Site) -> str:
    """Of each srun that starts our code; where there are two at once, none waits for the CPUs of the other."""
    overlap = ("--overlap",) if job.own_ray and site.srun else ()
    return "".join(f"{quoted(option)} " for option in (*overlap, *site.srun))


def _command(job: Job) -> Iterator[str]:
    yield "command=("
    line: list[str] = []
    for word in job.command:
        text = _word(word, job)
        whole = len(line) > 1 and line[0].startswith("--")
        if line and (text.startswith("--") or whole):
            yield f"  {' '.join(line)}"
            line = []
        line.append(text)
    yield f"  {' '.join(line)}"
    yield ")"


def _word(word: str | Word, job: Job) -> str:
    match word:
        case str():
            return quoted(word)
        case Word.PYTHON:
            return '"${python[@]}"'
        case Word.SHARE:
            return f'"$element/{len(job.elements)}"'
        case Word.MEETING_POINT:
            return '"$meeting_point"'
        case Word.RAY_ADDRESS:
            return '"$RAY_ADDRESS"'
        case Word.START:
            return f'"${START_VARIABLE}"'
        case _:
            assert_never(word)


def _waiting(job: Job, site: Site, place: Place) -> Iterator[str]:
    srun = ""
    if job.on_every_node:
        yield f"export {MEETING_VARIABLE}={quoted(str(place.folder))}/meeting.${START_VARIABLE}"
        yield f'mkdir -p "${MEETING_VARIABLE}"'
        yield EACH_NODE
        # Those that have met get the time of a notice to save, after the first of them has left.
        options = f"--kill-on-bad-exit=1 --wait={site.notice_seconds} {_step_options(job, site)}"
        srun = f'srun {options}bash -c "$each_node" bash '
    elif site.srun:
        srun = f"srun --nodes=1 --ntasks=1 {_step_options(job, site)}"
    if job.own_ray:
        yield '[ "$up" = 0 ] || command=(exit "$up")'
    yield f'{srun}"${{command[@]}}" &'
    yield "child=$!"
    yield '[ "$asked" = no ] || stop'
    yield 'wait "$child"; code=$?'
    yield 'while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done'
    yield "child="
    if job.on_every_node:
        yield "# The highest status of all nodes (killed, if one has none), or that of the one that ended early."
        yield "for ((node = 0; node < SLURM_NNODES; node++)); do"
        yield f'  read -r ended 2>/dev/null <"${MEETING_VARIABLE}/ended-$node" || {{ code={KILLED}; break; }}'
        yield '  [ "$ended" -le "$code" ] || code=$ended'
        yield "done"
        yield f'[ ! -e "${MEETING_VARIABLE}/gone" ] || read -r code <"${MEETING_VARIABLE}/gone"'
        yield f'rm -rf "${MEETING_VARIABLE}"'
    if job.own_ray:
        yield "trap - EXIT; end_ray"
    yield ""


def _ending(job: Job, site: Site) -> Iterator[str]:
    identity = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" if job.array else "$SLURM_JOB_ID"
    yield "# Requeues the job if it has saved progress and is not being cancelled; the controller may be away a while."
    yield f'verdict=$({ASKED_VARIABLE}=$asked_at "${{record[@]}}" end --code "$code" --asked "$asked")'
    yield f"until=$((SECONDS + {site.notice_seconds}))"
    yield 'while [ "$verdict" = again ] && [ "$SECONDS" -lt "$until" ]; do'
    yield f'  if state=$(scontrol show job "{identity}"); then'
    yield "    case $state in *JobState=RUNNING*) ;; *) break ;; esac"
    yield f'    if scontrol requeue "{identity}"; then sleep {REQUEUE_SECONDS}; break; fi'
    yield "  fi"
    yield f"  sleep {ASK_AGAIN_SECONDS}"
    yield "done"
    yield 'exit "$code"'
    yield ""


def quoted(text: str) -> str:
    """One word of bash, on one line.

    Control characters are written as escapes: sbatch refuses scripts with carriage returns, and a line break would end
    a comment or an option. Everything else stands as it is, so that a person can read it.

    Raises:
        ValueError: a NUL, which no argument can hold.
    """
    if "\0" in text:
        raise ValueError(f"an argument cannot hold NUL, found {text!r}")
    if not _CONTROL.search(text):
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _CONTROL.sub(_escape, escaped) + "'"


def _escape(match: re.Match[str]) -> str:
    # Bytes in octal: bash reads at most three digits, while \x would go on into a digit that follows.
    return "".join(f"\\{byte:03o}" for byte in match[0].encode(errors="surrogateescape"))


def sbatch_value(text: str) -> str:
    """The value of an option in a line #SBATCH, whose quotes and backslashes sbatch reads by itself.

    Raises:
        TargetError: a control character: such a line cannot be continued.
    """
    if _CONTROL.search(text):
        raise TargetError("an option of sbatch contains a control character", found=repr(text), do="remove it")
    if re.fullmatch(r"[\w@%+=:,./-]+", text, re.ASCII):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
