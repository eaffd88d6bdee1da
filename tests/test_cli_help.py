"""The pages of --help: complete, in 80 columns, the same on a terminal and in a file; and that their examples are right."""

from __future__ import annotations

import re
import shlex
from typing import get_args

import pytest
import typer

from broadaxe.cli import app
from broadaxe.commands import options
from broadaxe.commands.compile import FORMS, TOOLS, WEIGHTS
from broadaxe.commands.page import examples, parts
from broadaxe.commands.usage import USAGE
from broadaxe.config import CompileSettings, RequantizerForm
from broadaxe.quantization.recipe import Method, Preset

GROUP = typer.main.get_command(app)
COMMANDS = GROUP.commands


def leaves(command, path):
    """A command, or those below it."""
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from leaves(below, f"{path} {name}")
    else:
        yield path, command


ALL = dict(pair for name, command in COMMANDS.items() for pair in leaves(command, name))


@pytest.fixture(params=["", *ALL])
def page(request, run):
    code, out, err = run(*request.param.split(), "--help")
    assert (code, err) == (0, "")
    return out


def test_a_page_is_80_columns_of_plain_text(page):
    assert max(map(len, page.splitlines())) <= 80
    assert page.startswith("Usage: broadaxe ")
    assert "\x1b" not in page


@pytest.mark.parametrize("name", ALL)
def test_a_page_has_what_one_needs(name, run):
    """Two examples or more, and what to run next; every option that takes a value says what."""
    command = ALL[name]
    head, sections = parts(command.help)
    assert head
    assert len(command.get_short_help_str()) <= 66
    sections = dict(sections)
    assert len(examples(command)) >= 2
    assert "Next" in sections
    for parameter in command.params:
        assert parameter.help
        if parameter.param_type_name == "argument" or not parameter.is_flag:
            assert parameter.metavar, parameter.name
    page = run(*name.split(), "--help")[1]
    assert [title for title in re.findall(r"^(\w[\w ]*):", page, flags=re.MULTILINE) if title in sections] == [
        *sections
    ]


@pytest.mark.parametrize("name", ALL)
def test_examples_parse(name):
    """As they stand: every command, option and argument of an example exists."""
    for line in "\n".join(examples(ALL[name])).replace("\\\n", "").splitlines():
        words = shlex.split(line.partition(" > ")[0])
        assert words[0] == "broadaxe"
        path, command, rest = "broadaxe", GROUP, words[1:]
        while hasattr(command, "commands"):
            path, command, rest = f"{path} {rest[0]}", command.commands[rest[0]], rest[1:]
        try:
            command.make_context(path, rest).close()
        except USAGE as error:
            pytest.fail(f"{line}: {error}")


def test_the_first_page_has_every_command_once_in_the_order_of_the_work(run):
    page = run("--help")[1]
    rows = re.findall(r"^  ([a-z]+) +[A-Z]", page, flags=re.MULTILINE)
    assert [name for name in rows if name in COMMANDS] == [*COMMANDS]
    order = ("quantize", "diagnose", "sweep", "compile", "verify", "simulate", "dataflow", "report")
    assert [name for name in COMMANDS if name in order] == [*order]
    assert run() == (0, page, "")  # without a command
    assert run("config") == (0, run("config", "--help")[1], "")


def test_choices_of_the_command_line_are_those_of_the_settings():
    fields = CompileSettings.model_fields
    assert get_args(fields["tool"].annotation) == TOOLS
    assert get_args(fields["weights"].annotation) == WEIGHTS
    assert get_args(RequantizerForm) == FORMS
    assert get_args(Preset) == tuple(options.PRESETS)
    assert get_args(Method) == options.METHODS
