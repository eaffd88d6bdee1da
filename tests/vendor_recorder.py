"""A Tcl interpreter that knows the HLS commands of one version and nothing else of them: it checks and records."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from broadaxe.vendor.commands import commands
from broadaxe.vendor.versions import Version

RECORDER = r"""
# recorded: one line per command; wrong: what is said of the first that the version does not know
set recorder_tables [dict create]
proc recorder_check {name words} {
    global recorder_tables
    lassign [dict get $recorder_tables $name] least most options
    set plain {}
    for {set i 0} {$i < [llength $words]} {incr i} {
        set word [lindex $words $i]
        if {[string match -* $word]} {
            set key [string range $word 1 end]
            if {![dict exists $options $key]} {
                recorder_fail "$name has no option $word"
            }
            set pattern [dict get $options $key]
            if {$pattern ne ""} {
                incr i
                if {$i >= [llength $words] || ![regexp "^(?:$pattern)\$" [lindex $words $i]]} {
                    recorder_fail "$name $word does not take '[lindex $words $i]'"
                }
            }
        } else {
            lappend plain $word
        }
    }
    if {[llength $plain] < $least || [llength $plain] > $most} {
        recorder_fail "$name takes $least to $most words, not '$plain'"
    }
    if {$name eq "add_files" && ![file isfile [lindex $plain 0]]} {
        recorder_fail "$name: there is no file [lindex $plain 0] in [pwd]"
    }
    if {$name eq "csynth_design"} {
        file mkdir [file join $::recorder_project solution1 syn]
    }
    if {$name eq "open_project"} {
        set ::recorder_project [lindex $plain 0]
    }
    puts "RECORDED [list $name {*}$words]"
}
proc recorder_fail {text} {
    puts "WRONG $text"
    recorder_exit 99
}
rename exit recorder_exit
proc exit {{code 0}} { puts "EXIT $code"; recorder_exit $code }
rename exec {}
"""


def tclsh() -> str:
    found = shutil.which("tclsh")
    if found is None:
        pytest.skip("no tclsh to run Tcl in; on Debian or Ubuntu: apt-get install tcl")
    return found


def recorder(version: Version, path: Path) -> Path:
    """The recorder of a version as a script that runs the script it is given."""
    lines = [RECORDER]
    for name, command in commands(version).items():
        merged: dict[str, str] = {}
        for option in command.options:
            both = [p for p in (merged.get(option.name), option.value) if p]
            merged[option.name] = "|".join(both)
        table = " ".join(f"{{{key}}} {{{value}}}" for key, value in merged.items())
        lines.append(f"dict set recorder_tables {name} [list {command.least} {command.most} {{{table}}}]")
        lines.append(f"proc {name} args {{ recorder_check {name} $args }}")
    lines.append("set argv0 [lindex $argv 0]\nsource $argv0")
    path.write_text("\n".join(lines))
    return path


def record(version: Version, script: Path, folder: Path) -> tuple[list[str], list[str], int]:
    """Commands of the tool and other lines that a script gives, and its exit status."""
    done = subprocess.run(
        [tclsh(), str(recorder(version, folder / "recorder.tcl")), str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    called = [line.removeprefix("RECORDED ") for line in lines if line.startswith("RECORDED ")]
    return called, [line for line in lines if not line.startswith("RECORDED ")], done.returncode
